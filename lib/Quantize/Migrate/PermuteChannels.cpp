//===- PermuteChannels.cpp - Like channels next to each other -------------===//
//
// See Passes.td. Sites are those of scales; a gate's other operand moves, too.
//
//===----------------------------------------------------------------------===//
#include "ResidualStream.h"
#include "Scaling.h"
#include "quern/Quantize/Migrate/FalliblePass.h"
#include "quern/Quantize/Migrate/Passes.h"
#include <cmath>
#include <numeric>

namespace quern {
#define GEN_PASS_DEF_PERMUTECHANNELSPASS
#include "quern/Quantize/Migrate/Passes.h.inc"
} // namespace quern

using namespace mlir;
using namespace quern;
using namespace quern::migrate;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

namespace {
struct PermuteChannels : FalliblePass<quern::impl::PermuteChannelsPassBase<PermuteChannels>> {
  using Base::Base;

  Error run() override;
  Expected<bool> permuteSite(const ScaleSite &site, WeightStore &store);
  Error permuteStream(WeightStore &store);
  Expected<std::vector<float>> magnitudes(ArrayRef<WeightOp> matrices, WeightStore &store);

  quantize::Statistics known;
  struct {
    int64_t permuted = 0, refused = 0;
  } counts;
};
} // namespace

/// Of each channel that these matrices read: its largest weight, or its largest activation. Empty:
/// not known.
Expected<std::vector<float>> PermuteChannels::magnitudes(ArrayRef<WeightOp> matrices,
                                                         WeightStore &store) {
  int64_t channels = WeightOp(matrices[0]).getTensorType().getShape().back();
  std::vector<float> out(size_t(channels), 0.0f);
  for (WeightOp matrix : matrices) {
    if (by == "activations") {
      const quantize::InputStatistics *input = known.find(matrix.getSymName());
      if (!input)
        return std::vector<float>();
      if (input->columns != channels)
        return createStringError("the statistics have " + Twine(input->columns) +
                                 " channels for what enters '" + matrix.getSymName() +
                                 "', which has " + Twine(channels));
      for (auto [most, largest] : llvm::zip_equal(out, input->absMax))
        most = std::max(most, largest);
      continue;
    }
    Expected<std::vector<float>> values = store.load(matrix);
    if (!values)
      return values.takeError();
    for (size_t i = 0; i < values->size(); ++i) {
      float &most = out[i % out.size()];
      most = std::max(most, std::fabs((*values)[i]));
    }
  }
  return out;
}

/// Which free channel comes to each place: the largest first; within a head of values, each by itself.
static std::vector<int64_t> orderOf(const ScaleSite &site, ArrayRef<float> magnitudes) {
  std::vector<double> largest = largestOf(site, magnitudes);
  std::vector<int64_t> order(largest.size());
  std::iota(order.begin(), order.end(), 0);
  size_t run = site.absorber == Absorber::Attention ? size_t(site.headDim) : order.size();
  for (auto begin = order.begin(); begin != order.end(); begin += int64_t(run))
    std::stable_sort(begin, begin + int64_t(run), [&](int64_t a, int64_t b) {
      return largest[size_t(a)] > largest[size_t(b)];
    });
  return order;
}

/// Row begin + i (a vector's element) becomes what row begin + order[i] was.
static Error moveRows(WeightStore &store, const RowRange &range, ArrayRef<int64_t> order) {
  return edit(store, range.base, [&](std::vector<float> &values) {
    std::vector<float> before = values;
    for (int64_t matrix = 0; matrix < int64_t(values.size()); matrix += range.rows * range.columns)
      for (auto [i, from] : llvm::enumerate(order))
        std::copy_n(before.begin() + matrix + (range.begin + from) * range.columns, range.columns,
                    values.begin() + matrix + (range.begin + int64_t(i)) * range.columns);
  });
}

/// The same of the product's matrix and its bias.
static Error moveRowsOf(WeightStore &store, Operation *product, ArrayRef<int64_t> order) {
  SymbolTable &symbols = store.symbolTable();
  Value matrix = cast<WeightedOpInterface>(product).getWeightOperand().get();
  if (Error e = moveRows(store, rowRangeOf(matrix, symbols), order))
    return e;
  auto linear = dyn_cast<LinearOp>(product);
  return linear && linear.getBias() ? moveRows(store, rowRangeOf(linear.getBias(), symbols), order)
                                    : Error::success();
}

/// Column k becomes what column from[k] was.
static Error moveColumns(WeightStore &store, WeightOp matrix, ArrayRef<int64_t> from) {
  return edit(store, matrix, [&](std::vector<float> &values) {
    std::vector<float> row(from.size());
    for (auto begin = values.begin(); begin != values.end(); begin += int64_t(row.size())) {
      std::copy_n(begin, row.size(), row.begin());
      for (auto [k, column] : llvm::enumerate(from))
        begin[int64_t(k)] = row[size_t(column)];
    }
  });
}

/// False: the site stays as it is, with a remark.
Expected<bool> PermuteChannels::permuteSite(const ScaleSite &site, WeightStore &store) {
  Operation *first = site.consumers.front();
  if (site.absorber == Absorber::Gate && !site.gateProducer) {
    first->emitRemark() << "the channels that enter " << describe(first)
                        << " stay in their order: others read what makes their gate";
    return false;
  }
  Expected<std::vector<float>> largest = magnitudes(site.matrices, store);
  if (!largest)
    return largest.takeError();
  if (largest->empty()) {
    first->emitRemark() << "no statistics for what enters @"
                        << WeightOp(site.matrices[0]).getSymName();
    return false;
  }
  std::vector<int64_t> order = orderOf(site, *largest);
  if (Error e = moveRowsOf(store, site.producer, order))
    return std::move(e);
  if (site.gateProducer)
    if (Error e = moveRowsOf(store, site.gateProducer, order))
      return std::move(e);
  // Heads of queries that share values move alike.
  std::vector<int64_t> from;
  for (int64_t k = 0; k < site.channels(); ++k)
    from.push_back(k + order[size_t(site.scaleOf(k))] - site.scaleOf(k));
  for (WeightOp matrix : site.matrices)
    if (Error e = moveColumns(store, matrix, from))
      return std::move(e);
  return true;
}

/// Everything that reads or makes the stream; by what norms give to products.
Error PermuteChannels::permuteStream(WeightStore &store) {
  ModuleOp module = getOperation();
  ResidualStream found = findResidualStream(module);
  if (found.obstacle) {
    found.obstacle->emitRemark() << "the residual stream stays in its order: " << found.reason;
    ++counts.refused;
    return Error::success();
  }
  SymbolTable &symbols = store.symbolTable();
  if (found.last)
    found.norms.push_back(found.last);
  llvm::SetVector<Operation *> matrices;
  for (RMSNormOp norm : found.norms)
    for (Operation *product : norm.getResult().getUsers())
      matrices.insert(baseOf(
          weightOf(cast<WeightedOpInterface>(product).getWeightOperand().get(), symbols), symbols));
  SmallVector<WeightOp> readers;
  for (Operation *matrix : matrices)
    readers.push_back(cast<WeightOp>(matrix));
  Expected<std::vector<float>> largest = magnitudes(readers, store);
  if (!largest)
    return largest.takeError();
  if (largest->empty()) {
    found.embedding->emitRemark("no statistics for all that the residual stream enters");
    ++counts.refused;
    return Error::success();
  }
  std::vector<int64_t> order(largest->size());
  std::iota(order.begin(), order.end(), 0);
  llvm::stable_sort(order, [&](int64_t a, int64_t b) {
    return (*largest)[size_t(a)] > (*largest)[size_t(b)];
  });
  matrices.insert(baseOf(weightOf(found.embedding.getTable(), symbols), symbols));
  for (Operation *matrix : matrices)
    if (Error e = moveColumns(store, cast<WeightOp>(matrix), order))
      return e;
  for (RMSNormOp norm : found.norms)
    if (Error e = moveRows(store, rowRangeOf(norm.getGain(), symbols), order))
      return e;
  for (Operation *writer : found.writers) {
    auto weight = cast<WeightOp>(writer);
    ArrayRef<int64_t> shape = weight.getTensorType().getShape();
    bool isVector = shape.size() == 1;
    RowRange all{weight, 0, isVector ? 1 : shape.back(),
                 isVector ? shape[0] : shape[shape.size() - 2]};
    if (Error e = moveRows(store, all, order))
      return e;
  }
  ++counts.permuted;
  return Error::success();
}

Error PermuteChannels::run() {
  ModuleOp module = getOperation();
  if (Error e = checkDataFolder(data))
    return e;
  if (by != "weights" && by != "activations")
    return createStringError("unknown magnitude '" + by + "'; known: weights, activations");
  if (by == "activations") {
    if (statistics.empty())
      return createStringError("no statistics given (statistics=FILE, of `quern calibrate`)");
    Expected<quantize::Statistics> read = quantize::Statistics::read(statistics);
    if (!read)
      return read.takeError();
    known = std::move(*read);
  }
  for (const std::string &name : sites)
    if (name != "gate" && name != "attention" && name != "stream")
      return createStringError("unknown site '" + name + "'; known: gate, attention, stream");
  WeightStore store(module, data);
  auto isWanted = [&](StringRef name) {
    return sites.empty() ? name != "stream" : llvm::is_contained(sites, name);
  };
  for (const ScaleSite &site : findScaleSites(module).sites) {
    if (site.absorber == Absorber::Norm ||
        !isWanted(site.absorber == Absorber::Gate ? "gate" : "attention"))
      continue;
    Expected<bool> done = permuteSite(site, store);
    if (!done)
      return done.takeError();
    ++(*done ? counts.permuted : counts.refused);
  }
  if (isWanted("stream"))
    if (Error e = permuteStream(store))
      return e;
  permuted = counts.permuted;
  refused = counts.refused;
  leaveCounts(module, {{"permuted", counts.permuted}, {"refused", counts.refused}});
  return Error::success();
}
