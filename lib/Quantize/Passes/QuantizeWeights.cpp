//===- QuantizeWeights.cpp - Weights in the formats chosen ----------------===//
//
// See Passes.td; lib/Quantize/Solver rounds.
//
//===----------------------------------------------------------------------===//
#include "Rounding.h"
#include "quern/Format/Matrix.h"
#include "quern/Quantize/Migrate/ScaleSites.h"
#include "quern/Quantize/Migrate/WeightStore.h"
#include "quern/Quantize/Passes/Passes.h"
#include "llvm/Support/FileSystem.h"

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
struct QuantizeWeights : quern::impl::QuantizeWeightsPassBase<QuantizeWeights> {
  using Base::Base;

  void runOnOperation() override {
    if (Error error = quantize()) {
      getOperation()->emitError(llvm::toString(std::move(error)));
      signalPassFailure();
    }
  }
  Error quantize();
  /// Adds E[x] (W - W')ᵀ to the biases of the products that read rows of the matrix.
  Error correct(WeightOp weight, const InputStatistics &input, ArrayRef<float> values,
                const format::Spec &spec, const format::Components &components,
                const migrate::WeightReaders &readers, migrate::WeightStore &store);
  int64_t biases = 0;
};
} // namespace

Error QuantizeWeights::correct(WeightOp weight, const InputStatistics &input,
                               ArrayRef<float> values, const format::Spec &spec,
                               const format::Components &components,
                               const migrate::WeightReaders &readers,
                               migrate::WeightStore &store) {
  std::vector<float> decoded(values.size());
  if (Error e = format::decode(spec, components, decoded))
    return e;
  std::vector<double> missing(values.size() / size_t(input.columns), 0.0);
  for (size_t i = 0; i < values.size(); ++i)
    missing[i / size_t(input.columns)] += (double(values[i]) - double(decoded[i])) *
                                          input.sum[i % size_t(input.columns)] /
                                          double(input.rows);
  SymbolTable &symbols = store.symbolTable();
  for (OpOperand *use : readers.readers(weight)) {
    auto linear = dyn_cast<LinearOp>(use->getOwner());
    if (!linear) // an embedding's rows are nobody's products
      continue;
    WeightOp read = migrate::weightOf(linear.getWeight(), symbols);
    size_t begin = read.isView() ? size_t(*read.getRowBegin()) : 0;
    ArrayRef<double> rows =
        ArrayRef(missing).slice(begin, size_t(read.getTensorType().getDimSize(0)));
    if (WeightOp bias = migrate::weightOf(linear.getBias(), symbols)) {
      if (bias.isView() || !llvm::hasSingleElement(readers.readers(bias))) {
        linear.emitRemark() << "the bias @" << bias.getSymName()
                            << " is not corrected: others share it";
        continue;
      }
      Expected<std::vector<float>> old = store.load(bias);
      if (!old)
        return old.takeError();
      for (auto [value, change] : llvm::zip_equal(*old, rows))
        value = float(double(value) + change);
      if (Error e = store.store(bias, *old))
        return e;
    } else {
      StringRef stem = read.getSymName();
      stem.consume_back(".weight");
      std::vector<float> made(rows.begin(), rows.end());
      Expected<WeightOp> created = store.create((stem + ".bias").str(), made);
      if (!created)
        return created.takeError();
      OpBuilder builder(linear);
      linear.getBiasMutable().assign(
          UseOp::create(builder, linear.getLoc(), created->getTensorType(),
                        FlatSymbolRefAttr::get(*created))
              .getResult());
    }
    ++biases;
  }
  return Error::success();
}

Error QuantizeWeights::quantize() {
  ModuleOp module = getOperation();
  if (!llvm::sys::fs::is_directory(data))
    return createStringError("the folder for rounded weights (data=FOLDER) does not exist: '" +
                             data + "'");
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
  Expected<Rounder> rounder = Rounder::create(statistics, solver, damping);
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
  int64_t done = 0;
  for (WeightOp weight : matrices) {
    auto chosen = weight->getAttrOfType<FormatAttr>(kChosenFormatAttr);
    if (!chosen && !other)
      continue;
    const format::Spec spec = chosen ? chosen.getSpec() : *other;
    Expected<std::vector<float>> values = store.load(weight);
    if (!values)
      return values.takeError();
    Expected<Solution> solution = rounder->solve(weight, *values, spec);
    if (!solution)
      return solution.takeError();
    if (Error e = store.store(weight, spec, solution->components, *form))
      return e;
    if (correctBiases) {
      Expected<const InputStatistics *> input = rounder->inputOf(weight);
      if (!input)
        return input.takeError();
      if (*input)
        if (Error e = correct(weight, **input, *values, spec, solution->components, readers, store))
          return e;
    }
    weight->removeAttr(kChosenFormatAttr);
    weight->removeAttr(kChoicesAttr);
    ++done;
  }
  rounded = done;
  corrected = biases;
  migrate::leaveCounts(module, {{"rounded", done}, {"corrected", biases}});
  return Error::success();
}
