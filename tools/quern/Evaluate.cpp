//===- Evaluate.cpp - quern evaluate --------------------------------------===//
//
// Perplexity of a model, and how far another is from it.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Evaluate.h"
#include "Arguments.h"
#include "Commands.h"
#include "Progress.h"
#include "quern/Import/Inspect.h"
#include "quern/Quantize/Executable.h"
#include "llvm/Support/MemoryBuffer.h"
#include <unistd.h>

namespace quern::tool {

static const char usage[] =
    "usage: quern evaluate MODEL [OTHER] --text FILE [options]\n\n"
    "Perplexity of MODEL; with OTHER, the divergence KL(MODEL || OTHER) of its predictions, in\n"
    "nats, at every token of the text but the first of each window. Either may be a GGUF file, a\n"
    "Hugging Face directory, IR (.mlirbc, .mlir), or an executable, which runs as it is.\n\n"
    "  --text FILE     UTF-8; every window of it is a sequence of its own\n"
    "  --engine E      float (default): all weights decoded to f32, so that only they differ;\n"
    "                  own: OTHER as it would be compiled, its own formats and integer products;\n"
    "                  an executable runs itself\n"
    "  --floor           OTHER is MODEL with weights and activations in bf16: what is no more\n"
    "                  than arithmetic\n"
    "  --tokens N      at most, spread over the text (default: all of it)\n"
    "  --window N      tokens of a window (default: 512, or half the model's context)\n"
    "  --threads N     (default: all cores)\n"
    "  --json          print one JSON object, with the mean KL of every window\n";

/// The model that is compared; an empty `path`: the first one in bf16.
static llvm::Expected<std::unique_ptr<quantize::Predictor>>
createSecond(llvm::StringRef model, llvm::StringRef path, bool floatEngine,
             quantize::ProgramOptions options) {
  if (path.empty()) {
    options.floatEngine = false;
    options.format = options.activations = "bf16";
    return quantize::createPredictor(model, options);
  }
  if (floatEngine && import::isProgram(path)) {
    if (import::isProgram(model))
      return llvm::createStringError("the float engine decodes the weights of '" + path +
                                     "' into a model file's place, and '" + model +
                                     "' is none; give --engine own");
    auto program = quantize::Program::create(model, options);
    if (!program)
      return program.takeError();
    auto executable = quantize::Executable::open(path, options.threads);
    if (!executable)
      return executable.takeError();
    if (llvm::Error e = (*executable)->decodeInto(**program, model))
      return std::move(e);
    return std::move(*program);
  }
  options.floatEngine = floatEngine;
  return quantize::createPredictor(path, options);
}

/// Both must see the same tokens, or nothing compares.
static llvm::Error checkTokens(quantize::Predictor &a, quantize::Predictor &b,
                               llvm::StringRef path) {
  auto buffer = llvm::MemoryBuffer::getFile(path);
  if (!buffer)
    return llvm::createStringError("cannot read '" + path + "': " + buffer.getError().message());
  // A part of the text tells tokenizers apart.
  llvm::StringRef text = (*buffer)->getBuffer().take_front(size_t(1) << 16);
  auto ofA = a.tokenize(text);
  if (!ofA)
    return ofA.takeError();
  auto ofB = b.tokenize(text);
  if (!ofB)
    return ofB.takeError();
  auto prefixA = a.prefix(), prefixB = b.prefix();
  if (!prefixA || !prefixB)
    return llvm::joinErrors(prefixA.takeError(), prefixB.takeError());
  if (*ofA != *ofB || *prefixA != *prefixB)
    return llvm::createStringError("the models cut the text into different tokens");
  return llvm::Error::success();
}

int evaluate(int argc, char **argv) {
  std::string text, engine = "float";
  int64_t window = 0;
  uint64_t tokens = 0;
  unsigned threads = 0;
  bool json = false, floor = false, help = false;
  Arguments arguments;
  arguments.option("--text", text);
  arguments.option("--engine", engine);
  arguments.number("--tokens", tokens);
  arguments.number("--window", window);
  arguments.number("--threads", threads);
  arguments.flag("--json", json);
  arguments.flag("--floor", floor);
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
  if (floor && rest->size() != 1)
    return wrong("--floor takes one model");
  if (rest->empty() || rest->size() > 2)
    return wrong("expected one model or two");
  if (text.empty())
    return wrong("no text given (--text)");
  if (engine != "float" && engine != "own")
    return wrong("unknown engine '" + engine + "'; known: float, own");

  quantize::ProgramOptions options;
  options.threads = threads;
  auto first = quantize::createPredictor((*rest)[0], options);
  if (!first)
    return fail(first.takeError());
  std::unique_ptr<quantize::Predictor> second;
  if (rest->size() == 2 || floor) {
    auto made = createSecond((*rest)[0], floor ? "" : (*rest)[1], engine == "float", options);
    if (!made)
      return fail(made.takeError());
    second = std::move(*made);
  }
  auto windows = quantize::readWindows(**first, text, window, tokens);
  if (!windows)
    return fail(windows.takeError());
  if (second)
    if (llvm::Error e = checkTokens(**first, *second, text))
      return fail(std::move(e));
  llvm::Expected<quantize::Divergence> found = [&] {
    ProgressLine line;
    bool show = isatty(2);
    return quantize::measure(**first, second ? *second : **first, *windows,
                             [&](double fraction) { return !show || line("evaluate", fraction); });
  }();
  if (!found)
    return fail(found.takeError());
  if (json) {
    llvm::json::Object report = found->report();
    if (!second)
      report = llvm::json::Object{{"perplexity", found->perplexity()},
                                  {"positions", report["positions"]},
                                  {"windows", report["windows"]}};
    llvm::outs() << llvm::json::Value(std::move(report)) << "\n";
    return Success;
  }
  llvm::outs() << "text             " << text << "\n"
               << llvm::format("perplexity       %.4f over %zu tokens in %zu windows of %lld\n",
                               found->perplexity(), found->kl.size(), found->windowKl.size(),
                               (long long)windows->window);
  if (second)
    llvm::outs() << llvm::format("                 %.4f of %s\n"
                                 "KL divergence    mean %.6f +- %.6f, median %.6f, 99 %% %.6f, "
                                 "99.9 %% %.6f\n"
                                 "probabilities    RMS change %.3f %%, top-1 agreement %.2f %%\n",
                                 found->basePerplexity(), (*rest)[0].c_str(), found->mean(),
                                 found->interval(), found->percentile(0.5), found->percentile(0.99),
                                 found->percentile(0.999), 100 * found->rmsChange(),
                                 100 * found->agreement());
  if (second) {
    quantize::Divergence::Ratio ratio = found->perplexityRatio();
    llvm::outs() << llvm::format("perplexity       %.4f of it, 95 %%: %.4f to %.4f\n", ratio.value,
                                 ratio.low, ratio.high)
                 << "by position     ";
    std::vector<double> curve = found->byPosition();
    for (size_t begin = 0; begin < curve.size(); begin = 2 * begin + 1) {
      size_t end = std::min(curve.size(), 2 * begin + 1);
      double sum = 0;
      for (size_t i = begin; i < end; ++i)
        sum += curve[i];
      llvm::outs() << llvm::format(" %zu: %.5f", begin + 1, sum / double(end - begin));
    }
    llvm::outs() << "\n";
  }
  return Success;
}

} // namespace quern::tool
