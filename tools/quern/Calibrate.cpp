//===- Calibrate.cpp - quern calibrate ------------------------------------===//
//
// Statistics of what enters each product, over a text; and adding such files up.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Calibrate.h"
#include "Arguments.h"
#include "Commands.h"
#include "Progress.h"
#include "quern/Support/OutputFile.h"
#include <unistd.h>

namespace quern::tool {

static const char usage[] =
    "usage: quern calibrate MODEL [--text FILE] -o STATISTICS [options]\n"
    "       quern calibrate --merge STATISTICS... -o STATISTICS\n\n"
    "Runs a text through the model in f32 and writes what enters each product: sums of x x^T,\n"
    "largest magnitudes, moments. `quern inspect` reads the file, `quern quantize` uses it.\n\n"
    "  --text FILE     UTF-8; every window of it is a sequence of its own (default: built-in "
    "prose)\n"
    "  --tokens N      at most, spread over the text (default: all of it)\n"
    "  --window N      tokens of a window (default: 512, or half the model's context)\n"
    "  --merge         add up files of the same model instead\n"
    "  --threads N     the sums do not depend on it (default: all cores)\n"
    "  --force         overwrite the output\n";

int calibrate(int argc, char **argv) {
  quantize::CalibrateOptions options;
  std::string output;
  bool force = false, merge = false, help = false;
  Arguments arguments;
  arguments.option("--text", options.text);
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
  if (merge ? rest->size() < 2 : rest->size() != 1)
    return wrong(merge ? "expected two files of statistics or more" : "expected one model");
  if (!merge && options.text.empty())
    llvm::errs() << "quern: note: no --text given: the built-in text is used, English prose in the "
                    "public domain\n";
  if (llvm::Error e = checkWritable(output, force))
    return fail(std::move(e));

  quantize::Statistics statistics;
  if (merge) {
    for (size_t i = 0; i < rest->size(); ++i) {
      llvm::Expected<quantize::Statistics> one = quantize::Statistics::read((*rest)[i]);
      if (!one)
        return fail(one.takeError());
      if (i == 0)
        statistics = std::move(*one);
      else if (llvm::Error e = statistics.merge(*one))
        return fail(std::move(e));
    }
  } else {
    options.model = (*rest)[0];
    ProgressLine line;
    if (isatty(2))
      options.progress = [&](double fraction) { return line("calibrate", fraction); };
    llvm::Expected<quantize::Statistics> made = quantize::calibrate(options);
    if (!made)
      return fail(made.takeError());
    statistics = std::move(*made);
  }
  if (llvm::Error e = statistics.write(output, force))
    return fail(std::move(e));
  llvm::outs() << "statistics   " << output << ": " << statistics.inputs.size() << " inputs, "
               << statistics.tokens << " tokens of " << statistics.text << "\n";
  return Success;
}

} // namespace quern::tool
