//===- ClipWeights.cpp - Smaller ranges that round better (AWQ) -----------===//
//
// See Passes.td. One group of one row at a time: groups are rounded by themselves.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Components.h"
#include "quern/Format/Encode.h"
#include "quern/Quantize/Migrate/FalliblePass.h"
#include "quern/Quantize/Migrate/Passes.h"
#include "quern/Quantize/Migrate/WeightStore.h"
#include "quern/Quantize/Statistics.h"
#include <Eigen/Dense>
#include <cmath>

namespace quern {
#define GEN_PASS_DEF_CLIPWEIGHTSPASS
#include "quern/Quantize/Migrate/Passes.h.inc"
} // namespace quern

using namespace mlir;
using namespace quern;
using namespace quern::migrate;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

namespace {
struct ClipWeights : FalliblePass<quern::impl::ClipWeightsPassBase<ClipWeights>> {
  using Base::Base;

  Error run() override;
  Error clipMatrix(std::vector<float> &values, const quantize::InputStatistics &input,
                   const format::Spec &spec);
};
} // namespace

/// Whether what `value` is made into are queries or keys of an attention.
static bool reachesScores(Value value) {
  for (OpOperand &use : value.getUses()) {
    if (auto attention = dyn_cast<AttentionOp>(use.getOwner())) {
      if (&use == &attention.getQMutable() || &use == &attention.getKMutable())
        return true;
    } else if (isa<RMSNormOp, RopeOp, HadamardOp>(use.getOwner())) {
      if (reachesScores(use.getOwner()->getResult(0)))
        return true;
    }
  }
  return false;
}

/// Columns whose codes share a scale.
static int64_t groupOf(const format::Spec &spec, int64_t columns) {
  int64_t group = spec.scale.empty() ? 0 : spec.scale.back().tile.cols;
  return group ? std::min(group, columns) : columns;
}

/// The squared error of each group's part of the results: d H dᵀ with the group's block of H.
static void groupErrors(ArrayRef<float> values, ArrayRef<float> decoded,
                        const quantize::InputStatistics &input, int64_t group,
                        std::vector<double> &errors) {
  int64_t columns = input.columns, rows = int64_t(values.size()) / columns;
  int64_t groups = llvm::divideCeil(columns, group);
  errors.assign(size_t(rows * groups), 0.0);
  using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  for (int64_t g = 0; g < groups; ++g) {
    int64_t begin = g * group, count = std::min(group, columns - begin);
    Matrix h(count, count), d(rows, count);
    for (int64_t i = 0; i < count; ++i)
      for (int64_t j = 0; j < count; ++j)
        h(i, j) = input.at(begin + i, begin + j) / double(input.rows);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t k = 0; k < count; ++k) {
        size_t at = size_t(r * columns + begin + k);
        d(r, k) = double(decoded[at]) - double(values[at]);
      }
    Eigen::VectorXd error = (d * h).cwiseProduct(d).rowwise().sum();
    for (int64_t r = 0; r < rows; ++r)
      errors[size_t(r * groups + g)] = error[r];
  }
}

Error ClipWeights::clipMatrix(std::vector<float> &values, const quantize::InputStatistics &input,
                              const format::Spec &spec) {
  int64_t columns = input.columns, group = groupOf(spec, columns);
  int64_t groups = llvm::divideCeil(columns, group), rows = int64_t(values.size()) / columns;
  // Calls `each(index of the group, its values in `of`)`.
  auto forGroups = [&](std::vector<float> &of, auto each) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t g = 0; g < groups; ++g) {
        int64_t begin = g * group, count = std::min(group, columns - begin);
        each(size_t(r * groups + g),
             llvm::MutableArrayRef(of).slice(size_t(r * columns + begin), size_t(count)));
      }
  };
  auto clipTo = [](llvm::MutableArrayRef<float> part, float limit) {
    for (float &v : part)
      v = std::clamp(v, -limit, limit);
  };
  std::vector<float> largest(size_t(rows * groups)), limits;
  forGroups(values, [&](size_t i, ArrayRef<float> part) {
    for (float v : part)
      largest[i] = std::max(largest[i], std::fabs(v));
  });
  limits = largest;
  std::vector<double> least, errors;
  for (unsigned step = 0; step < steps; ++step) {
    float ratio = 1.0f - float(step) / float(2 * steps);
    std::vector<float> tried = values;
    forGroups(tried, [&](size_t i, llvm::MutableArrayRef<float> part) {
      clipTo(part, largest[i] * ratio);
    });
    format::Components components;
    if (Error e = format::encode(spec, tried, rows, columns, components))
      return e;
    if (Error e = format::decode(spec, components, tried))
      return e;
    groupErrors(values, tried, input, group, errors);
    if (step == 0) {
      least = errors;
      continue;
    }
    for (auto [i, error] : llvm::enumerate(errors))
      if (error < least[i]) {
        least[i] = error;
        limits[i] = largest[i] * ratio;
      }
  }
  forGroups(values, [&](size_t i, llvm::MutableArrayRef<float> part) { clipTo(part, limits[i]); });
  return Error::success();
}

Error ClipWeights::run() {
  ModuleOp module = getOperation();
  Expected<format::Spec> spec = format::parse(format);
  if (!spec)
    return spec.takeError();
  if (spec->kind != format::Spec::Kind::Base || spec->scale.empty())
    return createStringError("format '" + format + "' has no scale that clipping could change");
  if (steps < 1 || steps > 100)
    return createStringError("steps must lie in [1, 100]");
  if (statistics.empty())
    return createStringError("no statistics given (statistics=FILE, of `quern calibrate`)");
  if (Error e = checkDataFolder(data))
    return e;
  Expected<quantize::Statistics> known = quantize::Statistics::read(statistics);
  if (!known)
    return known.takeError();
  WeightStore store(module, data);
  WeightReaders readers(module);
  int64_t done = 0, left = 0;
  for (auto weight : llvm::to_vector(module.getOps<WeightOp>())) {
    RankedTensorType type = weight.getTensorType();
    if (weight.isView() || type.getRank() < 2)
      continue;
    SmallVector<OpOperand *> uses = readers.readers(weight);
    auto isProduct = [](OpOperand *use) {
      auto product = dyn_cast<WeightedOpInterface>(use->getOwner());
      return product && &product.getWeightOperand() == use;
    };
    auto isScore = [&](OpOperand *use) {
      return isProduct(use) && reachesScores(use->getOwner()->getResult(0));
    };
    if (uses.empty() || llvm::none_of(uses, isProduct))
      continue;
    // A matrix, or one of every expert, each with what entered it; one that saw nothing stays.
    bool isStack = type.getRank() == 3;
    int64_t columns = type.getShape().back(), count = isStack ? type.getDimSize(0) : 1;
    SmallVector<const quantize::InputStatistics *> inputs;
    for (int64_t e = 0; e < count; ++e) {
      inputs.push_back(known->find(weight.getSymName(), isStack ? int32_t(e) : -1));
      if (inputs.back() && inputs.back()->columns != columns)
        return createStringError("the statistics have " + Twine(inputs.back()->columns) +
                                 " channels for what enters '" + weight.getSymName() +
                                 "', which has " + Twine(columns));
      if (inputs.back() && !inputs.back()->rows)
        inputs.back() = nullptr;
    }
    bool isKnown = llvm::any_of(inputs, [](auto *input) { return input; });
    if (!llvm::all_of(uses, isProduct) || llvm::any_of(uses, isScore) || !isKnown) {
      uses.front()->getOwner()->emitRemark()
          << "@" << weight.getSymName() << " is not clipped: "
          << (!llvm::all_of(uses, isProduct) ? "it is no product's alone"
              : llvm::any_of(uses, isScore)  ? "it makes queries or keys"
                                             : "no statistics for what it is multiplied with");
      ++left;
      continue;
    }
    Expected<std::vector<float>> values = store.load(weight);
    if (!values)
      return values.takeError();
    size_t size = values->size() / size_t(count);
    for (auto [e, input] : llvm::enumerate(inputs)) {
      if (!input)
        continue;
      auto begin = values->begin() + long(e * size);
      std::vector<float> own(begin, begin + long(size));
      if (Error error = clipMatrix(own, *input, *spec))
        return error;
      llvm::copy(own, begin);
    }
    if (Error e = store.store(weight, *values))
      return e;
    ++done;
  }
  clipped = done;
  refused = left;
  leaveCounts(module, {{"clipped", done}, {"refused", left}});
  return Error::success();
}
