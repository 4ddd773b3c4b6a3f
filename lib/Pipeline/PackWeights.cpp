//===- PackWeights.cpp - The weights section of a program -----------------===//
//
// Blocks of rows are read, encoded and packed side by side, then written in order.
//
//===----------------------------------------------------------------------===//
#include "quern/Pipeline/PackWeights.h"
#include "quern/Format/FileType.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/ThreadPool.h"
#include <numeric>

using namespace mlir;
using namespace quern;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

/// Elements of a block: bounds memory to some tens of megabytes a thread.
static constexpr int64_t blockElements = int64_t(1) << 20;

static format::Spec plainSpec(WeightSlot::Form form) {
  format::Spec spec;
  spec.code.kind = format::Code::Kind::Number;
  spec.code.number =
      format::Number::floating(form == WeightSlot::Form::F16    ? format::FloatKind::F16
                               : form == WeightSlot::Form::BF16 ? format::FloatKind::BF16
                                                                : format::FloatKind::F32);
  return spec;
}

Expected<PackPlan> quern::planWeights(ModuleOp module, ArrayRef<WeightSlot> slots) {
  SymbolTable symbols(module);
  PackPlan plan;
  for (const WeightSlot &slot : slots) {
    auto weight = symbols.lookup<WeightOp>(slot.name);
    if (!weight)
      return createStringError("kernels read weight '" + slot.name + "', which does not exist");
    if (weight.isView())
      weight = symbols.lookup<WeightOp>(*weight.getSource());
    PackedWeight w;
    w.weight = weight;
    w.shape = MatrixShape::of(weight.getTensorType());
    w.spec = getFormat(weight.getTensorType());
    if (slot.form == WeightSlot::Form::Panels) {
      Expected<format::PackedLayout> layout =
          format::PackedLayout::get(w.spec, w.shape.rows, w.shape.cols);
      if (!layout)
        return createStringError("weight '" + slot.name +
                                 "': " + llvm::toString(layout.takeError()));
      w.panels = std::move(*layout);
      w.size = uint64_t(w.shape.matrices) * uint64_t(w.panels->bytes());
    } else {
      w.spec = plainSpec(slot.form);
      w.size =
          uint64_t(w.shape.matrices * w.shape.rows * w.shape.cols) * (w.spec.code.number.bits / 8);
    }
    if (slot.bytes > w.size)
      return createStringError("weight '" + slot.name + "' packs to " + Twine(w.size) +
                               " bytes, but kernels read " + Twine(slot.bytes));
    w.offset = llvm::alignTo(plan.bytes, 64);
    plan.bytes = w.offset + w.size;
    plan.weights.push_back(std::move(w));
  }
  return plan;
}

namespace {
/// Rows [first, first + rows) of one matrix of one weight.
struct RowBlock {
  const PackedWeight *weight;
  int64_t matrix, first, rows;
};
} // namespace

static Error packBlock(const RowBlock &block, WeightData &data, std::vector<uint8_t> &out) {
  const PackedWeight &w = *block.weight;
  auto op = w.weight;
  format::Components rows;
  if (Error e = data.read(op, block.matrix, block.first, block.rows, rows))
    return e;
  if (w.panels) {
    int64_t panelRows = format::PackedLayout::panelRows;
    int64_t firstPanel = block.first / panelRows;
    int64_t panels = (block.rows + panelRows - 1) / panelRows;
    out.resize(size_t(panels * w.panels->panelBytes));
    for (int64_t i = 0; i < panels; ++i)
      if (Error e = w.panels->packPanel(rows, firstPanel + i,
                                        MutableArrayRef(out).slice(size_t(i * w.panels->panelBytes),
                                                                   size_t(w.panels->panelBytes))))
        return createStringError("weight '" + op.getSymName() +
                                 "': " + llvm::toString(std::move(e)));
    // Tables follow a matrix's panels; a matrix that has some comes as one block.
    if (w.panels->tableBytes) {
      out.resize(size_t(w.panels->bytes()));
      if (Error e = w.panels->packTables(
              rows, MutableArrayRef(out).drop_front(size_t(w.panels->tableStart))))
        return e;
    }
    return Error::success();
  }
  format::Spec stored = getFormat(op.getTensorType());
  if (stored != w.spec) {
    std::vector<float> values(size_t(block.rows * rows.cols));
    if (Error e = format::decode(stored, rows, values))
      return e;
    if (w.spec != plainSpec(WeightSlot::Form::F32))
      return createStringError("weight '" + op.getSymName() + "' is stored as '" +
                               format::print(stored) + "', but read as '" + format::print(w.spec) +
                               "'");
    out.resize(values.size() * sizeof(float));
    memcpy(out.data(), values.data(), out.size());
    return Error::success();
  }
  auto bytes = format::packCanonical(stored, rows);
  if (!bytes)
    return bytes.takeError();
  out = std::move((*bytes)[0]);
  return Error::success();
}

Error quern::packWeights(const PackPlan &plan, WeightData &data, emit::PayloadWriter &writer,
                         unsigned threads, llvm::function_ref<bool(double)> progress) {
  std::vector<RowBlock> blocks;
  for (const PackedWeight &w : plan.weights) {
    int64_t granule = std::lcm(WeightData::rowGranule(w.weight),
                               w.panels ? format::PackedLayout::panelRows : int64_t(1));
    int64_t rows = std::max<int64_t>(1, blockElements / std::max<int64_t>(1, w.shape.cols));
    rows = (rows + granule - 1) / granule * granule;
    for (int64_t m = 0; m < w.shape.matrices; ++m)
      for (int64_t r = 0; r < w.shape.rows; r += rows)
        blocks.push_back({&w, m, r, std::min(rows, w.shape.rows - r)});
  }
  // While one batch is hashed and written, the next is packed.
  struct Batch {
    size_t begin = 0, end = 0;
    std::vector<std::vector<uint8_t>> packed;
    std::vector<std::string> failures;
  };
  llvm::DefaultThreadPool pool(llvm::hardware_concurrency(threads));
  size_t width = std::max<size_t>(1, pool.getMaxConcurrency());
  Batch batches[2];
  auto start = [&](Batch &batch, size_t begin) {
    batch.begin = begin;
    batch.end = std::min(begin + width, blocks.size());
    batch.packed.resize(width);
    batch.failures.assign(width, "");
    for (size_t i = begin; i < batch.end; ++i)
      pool.async([&, i, begin] {
        if (Error e = packBlock(blocks[i], data, batch.packed[i - begin]))
          batch.failures[i - begin] = llvm::toString(std::move(e));
      });
  };
  start(batches[0], 0);
  for (size_t turn = 0; batches[turn % 2].begin < blocks.size(); ++turn) {
    pool.wait();
    Batch &done = batches[turn % 2];
    start(batches[(turn + 1) % 2], done.end);
    auto stop = [&](const llvm::Twine &why) { // tasks refer to the batches: let them end
      pool.wait();
      return createStringError(why);
    };
    for (size_t i = done.begin; i < done.end; ++i) {
      if (!done.failures[i - done.begin].empty())
        return stop(done.failures[i - done.begin]);
      const RowBlock &block = blocks[i];
      if (block.matrix == 0 && block.first == 0)
        writer.padTo(block.weight->offset);
      writer.write(done.packed[i - done.begin]);
    }
    if (!progress(double(done.end) / double(blocks.size())))
      return stop("cancelled");
  }
  return Error::success();
}
