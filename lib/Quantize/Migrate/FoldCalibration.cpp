//===- FoldCalibration.cpp - Static activation scales ---------------------===//
//
// See Passes.td.
//
//===----------------------------------------------------------------------===//
#include "mlir/IR/Builders.h"
#include "quern/Quantize/Migrate/Biases.h"
#include "quern/Quantize/Migrate/FalliblePass.h"
#include "quern/Quantize/Migrate/Passes.h"
#include "quern/Quantize/Statistics.h"
#include "llvm/Support/GlobPattern.h"
#include <cmath>

namespace quern {
#define GEN_PASS_DEF_FOLDCALIBRATIONPASS
#include "quern/Quantize/Migrate/Passes.h.inc"
} // namespace quern

using namespace mlir;
using namespace quern;
using namespace quern::migrate;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

namespace {
struct FoldCalibration : FalliblePass<quern::impl::FoldCalibrationPassBase<FoldCalibration>> {
  using Base::Base;

  Error run() override;
};
} // namespace

/// The scale that makes the largest channel, but for those in `leading`, the code 127; null where
/// there is none.
static FloatAttr scaleFor(MLIRContext *context, const quantize::InputStatistics &input,
                          double clip, ArrayRef<int32_t> leading, float threshold) {
  float largest = 0;
  for (auto [k, value] : llvm::enumerate(input.absMax))
    if (!llvm::is_contained(leading, int32_t(k)))
      largest = std::max(largest, value);
  largest = std::min(largest, threshold); // beyond it they are not rounded
  float scale = float(double(largest) * clip / 127);
  return std::isnormal(scale) ? FloatAttr::get(Float32Type::get(context), scale) : FloatAttr();
}

/// Scale and zero that put the range of all channels on the codes [-127, 127]; a zero of 0: it lies
/// there as well without.
static std::pair<FloatAttr, int32_t> rangeFor(MLIRContext *context,
                                              const quantize::InputStatistics &input, double clip) {
  double low = 0, high = 0;
  for (auto [least, most] : llvm::zip_equal(input.minimum, input.maximum)) {
    low = std::min(low, clip * double(least));
    high = std::max(high, clip * double(most));
  }
  float scale = float((high - low) / 254);
  if (!std::isnormal(scale))
    return {};
  int32_t zero = std::clamp(int32_t(std::lround(-(high + low) / 2 / double(scale))), -126, 126);
  return {FloatAttr::get(Float32Type::get(context), scale), zero};
}

/// What a zero adds to the product's results, taken back by its bias; false where that cannot be.
static Expected<bool> takeBack(LinearOp op, WeightOp weight, double added,
                               const WeightReaders &readers, WeightStore &store) {
  Expected<std::vector<float>> values = store.load(baseOf(weight, store.symbolTable()));
  if (!values)
    return values.takeError();
  ArrayRef<int64_t> shape = weight.getTensorType().getShape();
  size_t columns = size_t(shape[1]), first = weight.isView() ? size_t(*weight.getRowBegin()) : 0;
  std::vector<double> rows(size_t(shape[0]), 0.0);
  for (auto [r, row] : llvm::enumerate(rows))
    for (size_t k = 0; k < columns; ++k)
      row -= added * double((*values)[(first + r) * columns + k]);
  return addToBias(op, rows, readers, store);
}

Error FoldCalibration::run() {
  ModuleOp module = getOperation();
  if (statistics.empty())
    return createStringError("no statistics given (statistics=FILE, of `quern calibrate`)");
  if (!(clip > 0 && clip <= 1))
    return createStringError("clip must lie in (0, 1]");
  SmallVector<llvm::GlobPattern> patterns;
  for (const std::string &text : dynamic) {
    Expected<llvm::GlobPattern> pattern = llvm::GlobPattern::create(text);
    if (!pattern)
      return pattern.takeError();
    patterns.push_back(std::move(*pattern));
  }
  Expected<quantize::Statistics> known = quantize::Statistics::read(statistics);
  if (!known)
    return known.takeError();
  if (zeros)
    if (Error e = checkDataFolder(data, "biases"))
      return e;
  WeightStore store(module, data);
  WeightReaders readers(module);
  SymbolTable &symbols = store.symbolTable();
  int64_t done = 0, kept = 0, shifted = 0;
  Error problem = Error::success();
  module.walk([&](LinearOp op) {
    WeightOp weight = weightOf(op.getWeight(), symbols);
    StringRef name = weight ? weight.getSymName() : "";
    if (llvm::any_of(patterns, [&](const llvm::GlobPattern &p) { return p.match(name); })) {
      ++kept;
      return WalkResult::advance();
    }
    const quantize::InputStatistics *input = known->find(name);
    if (!input && weight) // parts of a fused matrix read what the whole does
      input = known->find(baseOf(weight, symbols).getSymName());
    // Of a column split the leading sets are not rounded.
    auto leading = weight ? weight->getAttrOfType<DenseI32ArrayAttr>(kSplitColumnsAttr)
                          : DenseI32ArrayAttr();
    FloatAttr scale = input ? scaleFor(&getContext(), *input, clip,
                                       leading ? leading.asArrayRef() : ArrayRef<int32_t>(),
                                       op.getOutlierThreshold()
                                           ? op.getOutlierThreshold()->convertToFloat()
                                           : INFINITY)
                            : FloatAttr();
    if (!scale) {
      op.emitRemark() << "no statistics for what enters @" << name << ": no static scale";
      ++kept;
      return WalkResult::advance();
    }
    int64_t width = op.getX().getType().getDimSize(1);
    if (input->columns != width) {
      problem = joinErrors(std::move(problem),
                           createStringError("the statistics have " + Twine(input->columns) +
                                             " channels for what enters '" + name +
                                             "', which has " + Twine(width)));
      return WalkResult::interrupt();
    }
    op.setActivations(ActivationFormat::Int8);
    op.setStaticScaleAttr(scale);
    if (zeros && !keepBeyond && !leading && !op.getOutlierThreshold()) {
      auto [own, zero] = rangeFor(&getContext(), *input, clip);
      Expected<bool> taken = false;
      if (zero)
        taken = takeBack(op, weight, own.getValueAsDouble() * zero, readers, store);
      if (!taken) {
        problem = joinErrors(std::move(problem), taken.takeError());
        return WalkResult::interrupt();
      }
      if (*taken) {
        op.setStaticScaleAttr(own);
        op.setStaticZero(uint32_t(zero));
        ++shifted;
      }
    }
    if (keepBeyond && !leading)
      op.setOutlierThresholdAttr(
          FloatAttr::get(scale.getType(), scale.getValueAsDouble() * 127.5));
    ++done;
    return WalkResult::advance();
  });
  if (problem)
    return problem;
  module.walk([&](ExpertLinearOp op) {
    op.emitRemark() << "what enters " << describe(op)
                    << " keeps scales of its own for each token: products of experts have no static one";
    ++kept;
  });
  if (!done && kept && patterns.empty())
    return createStringError("the statistics are of another model: they know none of its tensors");
  module.walk([](Operation *op) {
    if (isa<ObserveOp>(op))
      op->erase();
  });
  folded = done;
  left = kept;
  this->shifted = shifted;
  leaveCounts(module, {{"folded", done}, {"shifted", shifted}, {"left", kept}});
  return Error::success();
}
