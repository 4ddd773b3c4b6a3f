//===- Calibrate.cpp - quern calibrate ------------------------------------===//
//
// Statistics of what enters each product, over a text; and adding such files up.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Calibrate.h"
#include "Arguments.h"
#include "Commands.h"
#include "Progress.h"
#include "TextOptions.h"
#include "quern/Support/OutputFile.h"
#include <unistd.h>

namespace quern::tool {

static const char usage[] =
    "usage: quern calibrate MODEL [--text FILE]... -o STATISTICS [options]\n"
    "       quern calibrate --merge STATISTICS... -o STATISTICS\n\n"
    "Runs texts through the model in f32 and writes what enters each product: sums of x x^T,\n"
    "extremes, moments, a histogram. `quern inspect` reads the file, `quern quantize` uses it.\n"
    "STATISTICS may be an importance matrix of llama.cpp, which has the sums of x^2 alone: its "
    "name\n"
    "then ends in .gguf, or in .dat for the legacy format.\n\n"
    QUERN_TEXT_USAGE
    "  --tokens N            at most, spread over the text (default: all of it)\n"
    "  --window N            tokens of a window (default: 512, or half the model's context); every\n"
    "                        window, and every conversation, is a sequence of its own\n"
    "  --first-token         keep the first token of every sequence apart\n"
    "  --work DIR            keep what is done so far there; an interrupted run goes on from it, to\n"
    "                        the same bytes\n"
    "  --merge               add up files of the same model instead; one file is converted\n"
    "  --threads N           the sums do not depend on it (default: all cores)\n"
    "  --force               overwrite the output\n";

/// Runs the text, or adds files up; what was written.
static llvm::Expected<quantize::Statistics> make(quantize::CalibrateOptions &options,
                                                 llvm::ArrayRef<std::string> files, bool merge,
                                                 llvm::StringRef output, bool force) {
  auto note = [](const std::string &text) { llvm::errs() << "quern: note: " << text << "\n"; };
  if (!merge) {
    options.note = note;
    options.hessians = !quantize::isImatrixName(output);
    options.model = files[0];
    ProgressLine line;
    if (isatty(2))
      options.progress = [&](double fraction) { return line("calibrate", fraction); };
    return quantize::calibrate(options, output, force);
  }
  std::vector<quantize::Statistics> parts;
  for (const std::string &file : files) {
    llvm::Expected<quantize::Statistics> one = quantize::Statistics::readAny(file, note);
    if (!one)
      return one.takeError();
    parts.push_back(std::move(*one));
  }
  if (llvm::Error e = quantize::Statistics::writeSum(parts, output, force))
    return std::move(e);
  return quantize::Statistics::readAny(output, nullptr);
}

int calibrate(int argc, char **argv) {
  quantize::CalibrateOptions options;
  std::string output;
  bool force = false, merge = false, help = false;
  Arguments arguments;
  addTextOptions(arguments, options.texts);
  arguments.option("--work", options.work);
  arguments.flag("--first-token", options.firstToken);
  arguments.option("-o", output);
  arguments.number("--tokens", options.tokens);
  arguments.number("--window", options.window);
  arguments.number("--threads", options.threads);
  arguments.flag("--force", force);
  arguments.flag("--merge", merge);
  llvm::Expected<std::vector<std::string>> rest = arguments.parse(argc, argv, help);
  if (help) {
    llvm::consumeError(rest.takeError());
    llvm::outs() << usage;
    return Success;
  }
  auto wrong = [](const llvm::Twine &message) {
    llvm::errs() << "quern: error: " << message << "\n\n" << usage;
    return int(Usage);
  };
  if (!rest)
    return wrong(llvm::toString(rest.takeError()));
  if (output.empty())
    return wrong("no output given (-o)");
  if (merge ? rest->empty() : rest->size() != 1)
    return wrong(merge ? "expected files of statistics" : "expected one model");
  if (!merge && options.texts.empty())
    llvm::errs() << "quern: note: no --text given: the built-in text is used, English prose in the "
                    "public domain\n";
  if (llvm::Error e = checkWritable(output, force))
    return fail(std::move(e));

  llvm::Expected<quantize::Statistics> statistics = make(options, *rest, merge, output, force);
  if (!statistics)
    return fail(statistics.takeError());
  llvm::outs() << "statistics   " << output << ": " << statistics->inputs.size() << " inputs, "
               << statistics->tokens << " tokens of " << statistics->text << "\n";
  return Success;
}

} // namespace quern::tool
