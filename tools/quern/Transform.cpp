//===- Transform.cpp - quern transform ------------------------------------===//
//
// A model that computes the same, with weights that round better.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Transform.h"
#include "Arguments.h"
#include "Commands.h"
#include "Progress.h"
#include "TextOptions.h"
#include <unistd.h>

namespace quern::tool {

static const char usage[] =
    "usage: quern transform MODEL -o OUT --transform NAME,... [options]\n\n"
    "Moves outliers out of the way of rounding; the model computes the same. OUT is a GGUF file\n"
    "(.gguf) or IR with OUT.weights beside it (.mlirbc, .mlir as text); weights that change are f32.\n"
    "`quern quantize --transform` does this before it quantizes.\n\n"
    "  --transform T,...     in order, with options in braces: 'smooth{strength=0.8}'\n"
    QUERN_TEXT_USAGE
    "  --statistics FILE     of `quern calibrate`, for the first transform\n"
    "  --allow-requantize    go on from coded weights\n"
    "  --force               overwrite OUT\n"
    "  --threads N           the result does not depend on it (default: all cores)\n"
    "  --json                the report as JSON\n\n"
    "transforms:\n";

int transformModel(int argc, char **argv) {
  quantize::TransformOptions options;
  bool json = false, help = false;
  Arguments arguments;
  arguments.option("-o", options.output);
  addTextOptions(arguments, options.texts);
  arguments.option("--statistics", options.statistics);
  arguments.number("--threads", options.threads);
  arguments.flag("--force", options.force);
  arguments.flag("--json", json);
  arguments.flag("--allow-requantize", options.allowRequantize);
  arguments.option("--transform", [&](llvm::StringRef text) {
    options.transforms = quantize::splitTransforms(text);
    return llvm::Error::success();
  });
  llvm::Expected<std::vector<std::string>> rest = arguments.parse(argc, argv, help);
  if (help) {
    llvm::consumeError(rest.takeError());
    llvm::outs() << usage << quantize::transformNames();
    return Success;
  }
  auto wrong = [](const llvm::Twine &message) {
    llvm::errs() << "quern: error: " << message << "\n\n" << usage << quantize::transformNames();
    return int(Usage);
  };
  if (!rest)
    return wrong(llvm::toString(rest.takeError()));
  if (rest->size() != 1)
    return wrong("expected one model");
  if (options.output.empty())
    return wrong("no output given (-o)");
  if (options.transforms.empty())
    return wrong("no transform given (--transform)");
  options.model = (*rest)[0];
  llvm::Expected<llvm::json::Object> report = [&] {
    ProgressLine line;
    if (isatty(2))
      options.progress = [&](llvm::StringRef phase, double fraction) {
        return line(phase, fraction);
      };
    options.note = [](const std::string &text) { llvm::errs() << "quern: note: " << text << "\n"; };
    return quantize::transform(options);
  }();
  if (!report)
    return fail(report.takeError());
  if (json) {
    llvm::outs() << llvm::json::Value(std::move(*report)) << "\n";
    return Success;
  }
  if (auto text = report->getString("text"))
    llvm::outs() << "text         " << *text << "\n";
  for (const llvm::json::Value &value : *report->getArray("transforms")) {
    llvm::outs() << "transform    ";
    quantize::printTransform(*value.getAsObject(), llvm::outs());
    llvm::outs() << "\n";
  }
  llvm::outs() << "output       " << options.output << ", " << report->getArray("tensors")->size()
               << " tensors changed\n";
  return Success;
}

} // namespace quern::tool
