//===- Scaling.cpp - What the scaling passes share ------------------------===//
//
// Columns of the readers times s, the producer over s; in f64, rounded once.
//
//===----------------------------------------------------------------------===//
#include "RoundingError.h"
#include <cmath>

using namespace mlir;
using namespace quern;
using namespace quern::migrate;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using quantize::Statistics;

Expected<std::vector<float>> quern::migrate::columnMaxima(const SiteData &at) {
  size_t channels = size_t(at.site.channels());
  std::vector<float> most(channels, 0.0f);
  for (WeightOp matrix : at.site.matrices) {
    Expected<std::vector<float>> values = at.store.load(matrix);
    if (!values)
      return values.takeError();
    for (size_t i = 0; i < values->size(); ++i)
      most[i % channels] = std::max(most[i % channels], std::fabs((*values)[i]));
  }
  return most;
}

std::vector<double> quern::migrate::largestOf(const ScaleSite &site, ArrayRef<float> byChannel) {
  std::vector<double> out(size_t(site.scales), 0.0);
  for (auto [k, value] : llvm::enumerate(byChannel)) {
    double &most = out[size_t(site.scaleOf(int64_t(k)))];
    most = std::max(most, double(value));
  }
  return out;
}

Error quern::migrate::edit(WeightStore &store, WeightOp weight,
                           llvm::function_ref<void(std::vector<float> &)> change) {
  Expected<std::vector<float>> values = store.load(weight);
  if (!values)
    return values.takeError();
  change(*values);
  return store.store(weight, *values);
}

RowRange quern::migrate::rowRangeOf(Value stored, SymbolTable &symbols) {
  WeightOp weight = weightOf(stored, symbols);
  RowRange out;
  out.base = baseOf(weight, symbols);
  ArrayRef<int64_t> shape = out.base.getTensorType().getShape();
  out.columns = shape.size() > 1 ? shape.back() : 1;
  out.rows = shape.size() > 1 ? shape[shape.size() - 2] : shape[0];
  out.begin = weight.isView() ? int64_t(*weight.getRowBegin()) : 0;
  return out;
}

/// Rows [begin, begin + scales) of every matrix of the tensor (a vector's elements) over s.
static Error divideRows(WeightStore &store, Value stored, ArrayRef<double> scales) {
  auto [base, begin, columns, rows] = rowRangeOf(stored, store.symbolTable());
  return edit(store, base, [&](std::vector<float> &values) {
    for (size_t matrix = 0; matrix < values.size(); matrix += size_t(rows * columns))
      for (auto [i, scale] : llvm::enumerate(scales)) {
        float *row = values.data() + matrix + size_t((begin + int64_t(i)) * columns);
        for (int64_t k = 0; k < columns; ++k)
          row[k] = float(double(row[k]) / scale);
      }
  });
}

/// x / s by an op of its own, for the products alone.
static Error insertOp(const ScaleSite &site, ArrayRef<double> scales, WeightStore &store) {
  std::vector<float> inverse;
  for (double scale : scales)
    inverse.push_back(float(1 / scale));
  StringRef matrix = WeightOp(site.matrices[0]).getSymName();
  matrix.consume_back(".weight");
  Expected<WeightOp> factors = store.create((matrix + ".input_scale").str(), inverse);
  if (!factors)
    return factors.takeError();
  Operation *first = site.consumers.front();
  OpBuilder builder(first);
  auto use = UseOp::create(builder, first->getLoc(), factors->getTensorType(),
                           FlatSymbolRefAttr::get(*factors));
  auto scaled = ScaleChannelsOp::create(builder, first->getLoc(), site.input, use);
  for (WeightedOpInterface product : site.consumers)
    product.getInputOperand().set(scaled);
  return Error::success();
}

static Error apply(const ScaleSite &site, ArrayRef<double> scales, WeightStore &store) {
  int64_t channels = site.channels();
  for (WeightOp matrix : site.matrices)
    if (Error e = edit(store, matrix, [&](std::vector<float> &values) {
          for (size_t i = 0; i < values.size(); ++i)
            values[i] =
                float(double(values[i]) * scales[size_t(site.scaleOf(int64_t(i) % channels))]);
        }))
      return e;
  if (site.absorber == Absorber::Op)
    return insertOp(site, scales, store);
  if (auto norm = dyn_cast<RMSNormOp>(site.producer)) {
    double offset = norm.getUnitOffset() ? 1 : 0;
    return edit(store, weightOf(norm.getGain(), store.symbolTable()),
                [&](std::vector<float> &gain) {
                  for (auto [g, scale] : llvm::zip(gain, scales))
                    g = float((double(g) + offset) / scale - offset);
                });
  }
  if (auto norm = dyn_cast<LayerNormOp>(site.producer)) {
    if (Error e = divideRows(store, norm.getGain(), scales))
      return e;
    return norm.getBias() ? divideRows(store, norm.getBias(), scales) : Error::success();
  }
  auto product = cast<WeightedOpInterface>(site.producer);
  if (Error e = divideRows(store, product.getWeightOperand().get(), scales))
    return e;
  auto linear = dyn_cast<LinearOp>(site.producer);
  return linear && linear.getBias() ? divideRows(store, linear.getBias(), scales)
                                    : Error::success();
}

/// What of the error must be left for scales to be worth it: the error is an estimate, and scales
/// that hardly change it for what is known may do harm elsewhere.
static constexpr double worthwhile = 0.9;

/// Whether the site's products round clearly better with the scales.
static Expected<bool> improves(const SiteData &at, ArrayRef<double> scales,
                               const Rounding &rounding) {
  Expected<RoundingError> error = RoundingError::create(at, rounding);
  if (!error)
    return error.takeError();
  Expected<double> before = error->with({}), after = error->with(scales);
  if (!before || !after)
    return joinErrors(before.takeError(), after.takeError());
  return *after < worthwhile * *before;
}

Error quern::migrate::scaleChannels(ModuleOp module, const ScalingOptions &options, ScaleRule rule,
                                    ScalingCounts &counts) {
  if (options.statistics.empty() && !options.weightsOnly)
    return createStringError("no statistics given (statistics=FILE, of `quern calibrate`)");
  if (Error e = checkDataFolder(options.data))
    return e;
  llvm::SmallVector<Absorber> only;
  for (const std::string &name : options.only) {
    static constexpr StringLiteral names[] = {"norm", "gate", "attention", "op"};
    auto found = llvm::find(names, name);
    if (found == std::end(names))
      return createStringError("unknown site '" + name + "'; known: norm, gate, attention, op");
    only.push_back(Absorber(found - names));
  }
  Expected<Statistics> statistics =
      options.statistics.empty() ? Statistics() : Statistics::read(options.statistics);
  if (!statistics)
    return statistics.takeError();
  bool needsInput = !options.statistics.empty();
  ScaleAnalysis analysis = findScaleSites(module, llvm::is_contained(only, Absorber::Op));
  emitRemarks(analysis);
  counts.refused = analysis.refusals.size();
  WeightStore store(module, options.data);
  bool known = false, looked = false;
  for (const ScaleSite &site : analysis.sites) {
    if (!only.empty() && !llvm::is_contained(only, site.absorber))
      continue;
    looked = true;
    static const quantize::InputStatistics nothing;
    // Experts share their scales, which what enters all of them decides.
    quantize::InputStatistics ofExperts;
    const quantize::InputStatistics *input =
        needsInput ? statistics->findAll(WeightOp(site.matrices[0]).getSymName(), ofExperts)
                   : &nothing;
    if (!input || (needsInput && input->rows == 0)) {
      site.consumers.front()->emitRemark() << "no statistics for what enters @"
                                  << WeightOp(site.matrices[0]).getSymName() << ": not scaled";
      continue;
    }
    known = true;
    if (needsInput && input->columns != site.channels())
      return createStringError(
          "the statistics have " + Twine(input->columns) + " channels for what enters '" +
          WeightOp(site.matrices[0]).getSymName() + "', which has " + Twine(site.channels()));
    Expected<std::vector<double>> scales = rule({site, *input, store});
    if (!scales)
      return scales.takeError();
    if (scales->empty()) {
      ++counts.left;
      continue;
    }
    for (double scale : *scales)
      if (!std::isfinite(scale) || scale <= 0)
        return createStringError("a scale for what enters '" +
                                 WeightOp(site.matrices[0]).getSymName() + "' is " +
                                 std::to_string(scale));
    if (options.rounding && needsInput) {
      Expected<bool> better = improves({site, *input, store}, *scales, *options.rounding);
      if (!better)
        return better.takeError();
      if (!*better) {
        ++counts.left;
        continue;
      }
    }
    if (Error e = apply(site, *scales, store))
      return e;
    ++counts.scaled;
  }
  leaveCounts(module, {{"scaled", int64_t(counts.scaled)},
                       {"left", int64_t(counts.left)},
                       {"refused", int64_t(counts.refused)}});
  if (!known && looked)
    return createStringError("the statistics are of another model: they know none of its tensors");
  return Error::success();
}
