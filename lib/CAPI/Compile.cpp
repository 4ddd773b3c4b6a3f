//===- Compile.cpp - Compilation through the C interface ------------------===//
//
// Fills the pipeline's options from the caller's.
//
//===----------------------------------------------------------------------===//
#include "Internal.h"
#include "quern/Quantize/Compile.h"
#include "llvm/ADT/StringExtras.h"

using namespace llvm;
using namespace quern;
using namespace quern::capi;

QuernStatus quernCompile(const char *model, const char *output, const QuernCompileOptions *options,
                         const QuernCallbacks *callbacks) {
  Caller caller(callbacks);
  QuernCompileOptions given = normalized(options);
  CompileOptions compileOptions;
  compileOptions.model = text(model);
  compileOptions.output = text(output);
  if (given.emit) {
    Expected<EmitKind> kind = parseEmitKind(given.emit);
    if (!kind)
      return caller.fail(kind.takeError());
    compileOptions.emit = *kind;
  }
  SmallVector<StringRef> targets;
  std::string targetList = text(given.targets);
  StringRef(targetList).split(targets, ',', -1, /*KeepEmpty=*/false);
  for (StringRef target : targets)
    compileOptions.targets.push_back(target.str());
  compileOptions.format = text(given.format);
  if (given.activations)
    compileOptions.activations = given.activations;
  if (given.kvCache)
    compileOptions.kvCache = given.kvCache;
  compileOptions.context = given.context;
  compileOptions.weightsBeside = given.weightsBeside;
  compileOptions.force = given.force;
  compileOptions.progress = [&](StringRef phase, double fraction) {
    return caller.progress(phase, fraction);
  };
  quantize::RoundingOptions rounding;
  rounding.method = quantize::Method::Nearest;
  rounding.note = [&](const std::string &message) { caller.remark(message); };
  if (given.solver)
    if (Error e = quantize::parseMethod(given.solver).moveInto(rounding.method))
      return caller.fail(std::move(e));
  if (given.text)
    rounding.texts.push_back({given.text});
  Expected<json::Object> report = rounding.method == quantize::Method::Nearest
                                      ? compile(compileOptions)
                                      : quantize::compileRounded(compileOptions, rounding);
  if (!report)
    return caller.fail(report.takeError());
  return QUERN_STATUS_OK;
}
