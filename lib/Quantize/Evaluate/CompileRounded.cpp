//===- CompileRounded.cpp - Compiling with weights that a solver rounded --===//
//
// See Quantize/Compile.h.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Compile.h"
#include "Quantization.h"
#include "quern/Pipeline/InspectModule.h"
#include "quern/Support/OutputFile.h"

using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
namespace json = llvm::json;

Expected<json::Object> Quantization::compileIn(const CompileOptions &program) {
  if (Error e = checkOptions())
    return std::move(e);
  if (Error e = prepare(/*measures=*/false))
    return std::move(e);
  if (Error e = allocate())
    return std::move(e);
  import::ModelFile rounded = candidates->choose(assignment.choice);
  CompileOptions compile = program;
  compile.source = &rounded;
  Expected<json::Object> report = quern::compile(compile);
  if (report)
    (*report)["rounding"] = json::Object{{"solver", methodName(options.method)},
                                         {"text", statistics.text},
                                         {"tokens", int64_t(statistics.tokens)}};
  return report;
}

Expected<json::Object> quern::quantize::compileRounded(const CompileOptions &options,
                                                       const RoundingOptions &rounding) {
  if (options.format.empty())
    return createStringError("a solver rounds to a format: none given (--format)");
  if (!options.passes.empty() || isModule(options.model))
    return createStringError(options.model +
                             ": a solver rounds the matrices of a model file, not of IR or after "
                             "passes; `quern quantize` rounds IR, and transforms first "
                             "(--transform)");
  if (options.dryRun || rounding.method == Method::Nearest)
    return quern::compile(options);
  // What is wrong with the options is said before minutes of work.
  CompileOptions plan = options;
  plan.dryRun = true;
  Expected<json::Object> planned = quern::compile(plan);
  if (!planned)
    return planned;
  if (Error e = checkWritable(*planned->getString("output"), options.force))
    return std::move(e);
  QuantizeOptions quantize;
  quantize.model = options.model;
  quantize.format = options.format;
  quantize.output = "program"; // no GGUF file: all formats
  quantize.dryRun = true;      // compile() writes
  quantize.method = rounding.method;
  quantize.texts = rounding.texts;
  quantize.statistics = rounding.statistics;
  quantize.threads = options.threads;
  quantize.progress = options.progress;
  quantize.note = rounding.note;
  quantize.allowRequantize = rounding.allowRequantize;
  return Quantization(quantize).compileIn(options);
}
