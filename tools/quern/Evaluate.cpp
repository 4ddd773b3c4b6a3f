//===- Evaluate.cpp - quern evaluate --------------------------------------===//
//
// Perplexity of a model, and how far another is from it.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Evaluate.h"
#include "Arguments.h"
#include "Commands.h"
#include "Progress.h"
#include <unistd.h>

namespace quern::tool {

static const char usage[] =
    "usage: quern evaluate MODEL [OTHER] --text FILE [options]\n\n"
    "Perplexity of MODEL; with OTHER, the divergence KL(MODEL || OTHER) of its predictions, in\n"
    "nats, at every token of the text but the first of each window.\n\n"
    "  --text FILE     UTF-8; every window of it is a sequence of its own\n"
    "  --engine E      float (default): all weights decoded to f32, so that only they differ;\n"
    "                  own: OTHER as it would be compiled, its own formats and integer products\n"
    "  --tokens N      at most, spread over the text (default: all of it)\n"
    "  --window N      tokens of a window (default: 512, or half the model's context)\n"
    "  --threads N     (default: all cores)\n"
    "  --json          print one JSON object, with the mean KL of every window\n";

int evaluate(int argc, char **argv) {
  std::string text, engine = "float";
  int64_t window = 0;
  uint64_t tokens = 0;
  unsigned threads = 0;
  bool json = false, help = false;
  Arguments arguments;
  arguments.option("--text", text);
  arguments.option("--engine", engine);
  arguments.number("--tokens", tokens);
  arguments.number("--window", window);
  arguments.number("--threads", threads);
  arguments.flag("--json", json);
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
  if (rest->empty() || rest->size() > 2)
    return wrong("expected one model or two");
  if (text.empty())
    return wrong("no text given (--text)");
  if (engine != "float" && engine != "own")
    return wrong("unknown engine '" + engine + "'; known: float, own");

  quantize::ProgramOptions options;
  options.threads = threads;
  auto first = quantize::Program::create((*rest)[0], options);
  if (!first)
    return fail(first.takeError());
  std::unique_ptr<quantize::Program> second;
  if (rest->size() == 2) {
    options.floatEngine = engine == "float";
    auto made = quantize::Program::create((*rest)[1], options);
    if (!made)
      return fail(made.takeError());
    second = std::move(*made);
  }
  auto windows = quantize::readWindows(**first, text, window, tokens);
  if (!windows)
    return fail(windows.takeError());
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
  llvm::outs() << llvm::format("perplexity       %.4f over %zu tokens in %zu windows of %lld\n",
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
  return Success;
}

} // namespace quern::tool
