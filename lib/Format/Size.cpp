//===- Size.cpp - Stored sizes and extents of a format's components -------===//
//
// The one place that knows how many codes and parameters a matrix has; unpacked
// arrays, canonical layouts and reports all ask here.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Size.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/CheckedArithmetic.h"
#include "llvm/Support/MathExtras.h"
#include <numeric>

using namespace quern::format;

int64_t quern::format::storageTile(const Spec &spec) {
  int64_t cols = 0;
  for (const auto *levels : {&spec.scale, &spec.offset, &spec.zero})
    for (const Level &level : *levels)
      cols = std::max(cols, level.tile.cols);
  return cols;
}

Extents quern::format::extents(const Spec &spec, int64_t rows, int64_t cols) {
  Extents e;
  e.rows = rows;
  e.cols = cols;
  int64_t values = spec.code.valuesPerIndex();
  e.tileCols = storageTile(spec);
  if (e.tileCols == 0)
    e.tileCols = std::max<int64_t>(llvm::divideCeil(cols, values) * values, values);
  e.tilesPerRow = llvm::divideCeil(cols, e.tileCols);
  e.paddedCols = e.tilesPerRow * e.tileCols;
  e.codesPerTile = e.tileCols / values;
  e.codesPerRow = e.tilesPerRow * e.codesPerTile;
  e.codeBytesPerTile = spec.code.codeBytes(e.codesPerTile);
  return e;
}

LevelExtents quern::format::levelExtents(const Spec &spec, const Level &level, int64_t rows,
                                         int64_t cols) {
  LevelExtents l;
  l.rows = level.tile.rows == 0 ? 1 : llvm::divideCeil(rows, level.tile.rows);
  if (level.tile.cols == 0) {
    l.cols = l.perTile = 1;
    l.bytesPerTile = l.bytesPerRow = llvm::divideCeil(uint64_t(level.number.bits), 8);
    return l;
  }
  Extents e = extents(spec, rows, cols);
  l.perTile = e.tileCols / level.tile.cols;
  l.cols = l.perTile * e.tilesPerRow;
  l.bytesPerTile = llvm::divideCeil(uint64_t(l.perTile) * level.number.bits, 8);
  l.bytesPerRow = l.bytesPerTile * e.tilesPerRow;
  return l;
}

namespace {
/// A byte count that remembers whether it ever overflowed.
struct Bytes {
  uint64_t value = 0;
  bool overflow = false;
  void addProduct(uint64_t a, uint64_t b) {
    auto product = llvm::checkedMulUnsigned(a, b);
    auto sum = product ? llvm::checkedAddUnsigned(value, *product) : std::nullopt;
    overflow |= !sum;
    value = sum.value_or(0);
  }
};
} // namespace

static uint64_t tableBytes(const Table &table) {
  return llvm::divideCeil((uint64_t(1) << table.indexBits) * table.dim * table.entryNumber.bits, 8);
}

/// Adds the bytes of `count` matrices; learned tables are one per tensor.
static void addBase(const Spec &spec, uint64_t count, int64_t rows, int64_t cols, Bytes &total) {
  Extents e = extents(spec, rows, cols);
  Bytes matrix;
  Bytes row;
  row.addProduct(e.tilesPerRow, e.codeBytesPerTile);
  matrix.overflow = row.overflow;
  matrix.addProduct(rows, row.value);
  for (const auto *levels : {&spec.scale, &spec.offset, &spec.zero})
    for (const Level &level : *levels) {
      LevelExtents l = levelExtents(spec, level, rows, cols);
      matrix.addProduct(l.rows, l.bytesPerRow);
    }
  total.overflow |= matrix.overflow;
  total.addProduct(count, matrix.value);
  if (spec.code.kind == Code::Kind::Table && spec.code.table.isLearned())
    total.addProduct(1, tableBytes(spec.code.table));
}

llvm::Expected<uint64_t> quern::format::storedBytes(const Spec &spec, llvm::ArrayRef<int64_t> shape,
                                                    llvm::ArrayRef<int64_t> splitCols) {
  auto describe = [&] {
    std::string text;
    for (int64_t dim : shape)
      text += (text.empty() ? "" : "x") + std::to_string(dim);
    return "shape [" + text + "]";
  };
  // Padding adds less than one tile, so this bound keeps every extent well inside int64_t.
  constexpr int64_t maxDim = int64_t(1) << 56;
  uint64_t count = 1;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] < 0 || shape[i] > maxDim)
      return llvm::createStringError(describe() + ": dimension " + llvm::Twine(uint64_t(i)) +
                                     " is negative or too large");
    if (i + 2 < shape.size()) {
      auto product = llvm::checkedMulUnsigned(count, uint64_t(shape[i]));
      if (!product)
        return llvm::createStringError(describe() + " has too many elements");
      count = *product;
    }
  }
  int64_t cols = shape.empty() ? 1 : shape.back();
  int64_t rows = shape.size() < 2 ? 1 : shape[shape.size() - 2];
  Bytes total;
  auto add = [&](const Spec &term, int64_t termCols) {
    if (term.kind == Spec::Kind::Base) {
      addBase(term, count, rows, termCols, total);
      return;
    }
    for (const Spec &inner : term.terms)
      addBase(inner, count, rows, termCols, total);
  };
  if (spec.kind == Spec::Kind::Split) {
    uint64_t sum = 0;
    for (int64_t c : splitCols)
      sum += c < 0 || c > cols ? uint64_t(maxDim) : uint64_t(c);
    if (splitCols.size() != spec.terms.size() || sum != uint64_t(cols))
      return llvm::createStringError(describe() + ": the column sets of a split of " +
                                     llvm::Twine(uint64_t(spec.terms.size())) +
                                     " terms do not add up to its columns");
    for (size_t i = 0; i < spec.terms.size(); ++i)
      add(spec.terms[i], splitCols[i]);
    total.addProduct(cols, sizeof(int32_t));
  } else {
    add(spec, cols);
  }
  if (total.overflow || total.value > uint64_t(INT64_MAX))
    return llvm::createStringError(describe() + " takes more than 2^63 bytes");
  return total.value;
}

/// Of a split's columns, to each set but the last.
static constexpr int64_t splitShare = 16;

llvm::Expected<std::vector<int64_t>> quern::format::splitColumns(const Spec &spec, int64_t cols) {
  std::vector<int64_t> sizes = spec.termColumns;
  if (sizes.empty())
    sizes.assign(spec.terms.size() - 1,
                 llvm::divideCeil(llvm::divideCeil(cols, splitShare), columnGroup) * columnGroup);
  int64_t taken = 0;
  for (int64_t size : sizes)
    taken += size;
  if (cols <= taken)
    return llvm::createStringError("'" + print(spec) + "' leaves no column of " +
                                   llvm::Twine(cols) + " for its last set");
  sizes.push_back(cols - taken);
  return sizes;
}

double quern::format::bitsPerWeight(const Spec &spec) {
  if (!spec.termColumns.empty())
    return bitsPerWeight(spec.terms.back());
  double bits = 0;
  for (const Spec &term : spec.terms) {
    bool isLast = &term == &spec.terms.back();
    double share = 1;
    if (spec.kind == Spec::Kind::Split)
      share = double(isLast ? splitShare - int64_t(spec.terms.size()) + 1 : 1) / splitShare;
    bits += share * bitsPerWeight(term);
  }
  if (spec.kind != Spec::Kind::Base)
    return bits;
  int64_t tile = storageTile(spec);
  if (tile == 0)
    return spec.code.base3 ? 1.6 : double(spec.code.bitsPerIndex()) / spec.code.valuesPerIndex();
  double bytes = double(spec.code.codeBytes(tile / spec.code.valuesPerIndex()));
  for (const auto *levels : {&spec.scale, &spec.offset, &spec.zero})
    for (const Level &level : *levels)
      if (level.tile.cols != 0 && level.tile.rows != 0)
        bytes += double(levelExtents(spec, level, 1, tile).bytesPerTile) / level.tile.rows;
  return bytes * 8 / tile;
}
