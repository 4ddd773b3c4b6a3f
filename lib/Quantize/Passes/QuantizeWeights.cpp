//===- QuantizeWeights.cpp - Weights in the formats chosen ----------------===//
//
// See Passes.td; lib/Quantize/Solver rounds.
//
//===----------------------------------------------------------------------===//
#include "Rounding.h"
#include "quern/Format/Matrix.h"
#include "quern/Quantize/Migrate/FalliblePass.h"
#include "quern/Quantize/Passes/CorrectBiases.h"
#include "quern/Quantize/Passes/Passes.h"

namespace quern {
#define GEN_PASS_DEF_QUANTIZEWEIGHTSPASS
#include "quern/Quantize/Passes/Passes.h.inc"
} // namespace quern

using namespace mlir;
using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

namespace {
struct QuantizeWeights : FalliblePass<quern::impl::QuantizeWeightsPassBase<QuantizeWeights>> {
  using Base::Base;

  Error run() override;
};
} // namespace

Error QuantizeWeights::run() {
  ModuleOp module = getOperation();
  if (Error e = migrate::checkDataFolder(data, "rounded weights"))
    return e;
  std::optional<format::Spec> other;
  if (!format.empty()) {
    Expected<format::Spec> spec = format::parseBaseFormat(format);
    if (!spec)
      return spec.takeError();
    other = std::move(*spec);
  }
  std::optional<ActivationFormat> form = symbolizeActivationFormat(activations);
  if (!form)
    return createStringError("unknown activations '" + activations +
                             "'; known: fast, f32, bf16, q8, int8, q4, int4");
  Expected<Rounder> rounder = Rounder::create(module, statistics, solver, damping);
  if (!rounder)
    return rounder.takeError();
  SmallVector<WeightOp> matrices = findMatrices(module);
  for (auto weight : module.getOps<WeightOp>())
    if (weight->hasAttr(kChosenFormatAttr) && !llvm::is_contained(matrices, weight))
      return createStringError("weight '" + weight.getSymName() +
                               "' has a chosen format, but is no float matrix of products");
  migrate::WeightStore store(module, data);
  migrate::WeightReaders readers(module);
  if (correctBiases && statistics.empty())
    return createStringError("biases are corrected by the mean of what enters products: no "
                             "statistics given (statistics=FILE, of `quern calibrate`)");
  int64_t done = 0, biases = 0;
  for (WeightOp weight : matrices) {
    auto chosen = weight->getAttrOfType<FormatAttr>(kChosenFormatAttr);
    if (!chosen && !other)
      continue;
    const format::Spec spec = chosen ? chosen.getSpec() : *other;
    Expected<std::vector<float>> values = store.load(weight);
    if (!values)
      return values.takeError();
    Expected<std::vector<Rounded>> made = rounder->round(weight, *values, spec);
    if (!made)
      return made.takeError();
    if (Error e = store.store(weight, spec, made->front().bytes, *form))
      return e;
    weight->removeAttr(kChosenFormatAttr);
    weight->removeAttr(kChoicesAttr);
    ++done;
    if (!correctBiases || weight.getTensorType().getRank() > 2) // products with experts have no bias
      continue;
    Expected<std::vector<Subject::Part>> parts = rounder->partsOf(weight);
    if (!parts)
      return parts.takeError();
    if (const InputStatistics *input = parts->front().input) {
      Expected<int64_t> count =
          quantize::correctBiases(weight, *input, *values, made->front().values, readers, store);
      if (!count)
        return count.takeError();
      biases += *count;
    }
  }
  rounded = done;
  corrected = biases;
  migrate::leaveCounts(module, {{"rounded", done}, {"corrected", biases}});
  return Error::success();
}
