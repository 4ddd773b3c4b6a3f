//===- Rewrite.cpp - The chosen candidates in the IR -----------------------===//
//
// What was IR stays IR: its ops are kept, its matrices name the candidates' files.
//
//===----------------------------------------------------------------------===//
#include "Quantization.h"
#include "quern/Quantize/Passes/CorrectBiases.h"
#include "quern/Quantize/Passes/Passes.h"

using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

Error Quantization::rewrite(mlir::ModuleOp module, const import::ModelFile &chosen,
                            StringRef folder) {
  std::optional<ActivationFormat> form = symbolizeActivationFormat(options.activations);
  if (!form)
    return createStringError("unknown activations '" + options.activations + "'");
  migrate::WeightStore store(module, folder);
  migrate::WeightReaders readers(module);
  corrected = 0;
  for (const Tensor &tensor : candidates->tensors) {
    const import::TensorInfo &info =
        tensor.composed ? chosen.stacks[tensor.index] : chosen.tensors[tensor.index];
    const import::SourceFile &file = chosen.files[info.file];
    auto weight = store.symbolTable().lookup<WeightOp>(tensor.name);
    if (!weight)
      return createStringError(options.model + ": it has no weight '" + tensor.name + "'");
    const InputStatistics *input = statistics.find(tensor.name);
    // Of a probe, whose weights are zeros, nothing is corrected.
    auto candidate = llvm::find_if(tensor.candidates, [&](const Candidate &c) {
      return !c.key.empty() && candidates->pathOf(c) == file.path;
    });
    if (options.correctBiases && input && input->rows && candidate != tensor.candidates.end()) {
      Expected<std::vector<float>> values = readValues(source.model, candidates->source(tensor));
      Expected<std::vector<float>> rounded = candidates->values(tensor, *candidate);
      if (!values || !rounded)
        return llvm::joinErrors(values.takeError(), rounded.takeError());
      Expected<int64_t> done = correctBiases(weight, *input, *values, *rounded, readers, store);
      if (!done)
        return done.takeError();
      corrected += *done;
    }
    store.place(weight, info.spec, file.path, info.size, file.size, *form);
    weight->removeAttr(kChosenFormatAttr);
    if (info.spec.kind != format::Spec::Kind::Split)
      weight->removeAttr(kSplitColumnsAttr);
  }
  if (options.correctBiases) {
    std::string passes = "biases";
    if (auto before = module->getAttrOfType<mlir::StringAttr>(QuernDialect::kPassesAttr))
      passes = before.str() + "," + passes;
    module->setAttr(QuernDialect::kPassesAttr, mlir::StringAttr::get(module.getContext(), passes));
  }
  return Error::success();
}
