//===- UnpackPanels.cpp - Reading panels of 16 rows -----------------------===//
//
// The inverse of PackPanels.cpp, for tools that look into programs; kernels have their own.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Number.h"
#include "quern/Format/PackedLayout.h"
#include "llvm/ADT/BitVector.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/MathExtras.h"
#include <bit>

using namespace llvm;
using namespace quern::format;

static constexpr int64_t lanes = PackedLayout::panelRows;

/// The bits of entry `index`, lane `lane`, that a plane of levels or indices holds.
static uint32_t getLevel(const uint8_t *base, const BitPlane &plane, int64_t index, int64_t lane) {
  const uint8_t *at = base + plane.offset;
  if (plane.width >= 8) {
    at += (index * lanes + lane) * (plane.width / 8);
    uint32_t part = plane.width == 8    ? *at
                    : plane.width == 16 ? support::endian::read16le(at)
                                        : support::endian::read32le(at);
    return part << plane.shift;
  }
  int64_t perByte = 8 / plane.width;
  uint32_t part = at[index / perByte * lanes + lane] >> (index % perByte * plane.width);
  return (part & ((1u << plane.width) - 1)) << plane.shift;
}

/// The code in column `column` of a step, lane `lane`.
static uint32_t getQuad(const uint8_t *base, ArrayRef<BitPlane> planes, int64_t column,
                        int64_t lane) {
  uint32_t code = 0;
  for (const BitPlane &plane : planes) {
    int64_t perByte = 8 / plane.width, quad = column / 4;
    uint32_t byte = base[plane.offset + quad / perByte * 64 + lane * 4 + column % 4];
    uint32_t part = byte >> (quad % perByte * plane.width);
    code |= (part & ((1u << plane.width) - 1)) << plane.shift;
  }
  return code;
}

static uint32_t getDigit(const uint8_t *base, int64_t column, int64_t lane) {
  int64_t quad = column / 4, perByte = PackedLayout::digitsPerByte;
  unsigned byte = base[quad / perByte * lanes * 4 + lane * 4 + column % 4];
  for (int64_t skipped = 0; skipped < quad % perByte; ++skipped)
    byte = byte * 3 & 255;
  return byte * 3 >> 8;
}

/// A stored pattern as components keep it: see Stream.
static uint64_t restore(const Number &number, uint32_t pattern, bool biased) {
  if (number.isFloat(FloatKind::F64))
    return std::bit_cast<uint64_t>(double(std::bit_cast<float>(pattern)));
  uint64_t raw = pattern;
  if (number.bits < 32)
    raw &= (uint64_t(1) << number.bits) - 1;
  if (biased)
    raw ^= uint64_t(1) << (number.bits - 1);
  return number.kind == Number::Kind::Signed ? uint64_t(SignExtend64(raw, number.bits)) : raw;
}

static SmallVector<Components *> termsOf(Components &rows) {
  SmallVector<Components *> result;
  for (Components &term : rows.terms) {
    if (term.terms.empty())
      result.push_back(&term);
    for (Components &part : term.terms)
      result.push_back(&part);
  }
  return result;
}

Error PackedLayout::unpackPanel(ArrayRef<uint8_t> in, int64_t panel, Components &rows) const {
  if (int64_t(in.size()) != panelBytes)
    return createStringError("a panel has " + Twine(panelBytes) + " bytes, not " +
                             Twine(uint64_t(in.size())));
  if (terms.empty())
    return unpackTerm(in, panel, rows);
  SmallVector<Components *> data = termsOf(rows);
  if (data.size() != terms.size())
    return createStringError("a format of " + Twine(uint64_t(terms.size())) +
                             " terms has room for " + Twine(uint64_t(data.size())));
  for (auto [term, part] : llvm::zip(terms, data))
    if (Error error = term.unpackTerm(in.slice(term.panelStart, term.panelBytes), panel, *part))
      return error;
  return Error::success();
}

Error PackedLayout::unpackTables(ArrayRef<uint8_t> in, Components &rows) const {
  if (int64_t(in.size()) != tableBytes)
    return createStringError("learned tables have " + Twine(tableBytes) + " bytes, not " +
                             Twine(uint64_t(in.size())));
  for (auto [term, part] : llvm::zip(terms, termsOf(rows)))
    if (Error error =
            term.unpackTables(in.slice(term.tableStart - tableStart, term.tableBytes), *part))
      return error;
  if (spec.kind == Spec::Kind::Split) {
    BitVector seen(static_cast<unsigned>(k));
    rows.permutation.resize(size_t(k));
    for (auto [i, column] : llvm::enumerate(rows.permutation)) {
      column = int32_t(
          support::endian::read32le(in.data() + permutationStart - tableStart + 4 * int64_t(i)));
      if (column < 0 || column >= k || seen[unsigned(column)])
        return createStringError("the columns of a split are no permutation");
      seen.set(unsigned(column));
    }
  }
  if (!terms.empty())
    return Error::success();
  int64_t each = tableEntryBytes();
  if (int64_t(rows.table.size()) * each > tableBytes)
    return createStringError("a learned table of " + Twine(uint64_t(rows.table.size())) +
                             " entries is larger than its format");
  for (auto [i, entry] : llvm::enumerate(rows.table))
    entry = each == 2 ? float(decodeNumber(spec.code.table.entryNumber,
                                           support::endian::read16le(in.data() + 2 * i)))
                      : std::bit_cast<float>(support::endian::read32le(in.data() + 4 * i));
  return Error::success();
}

Error PackedLayout::unpackTerm(ArrayRef<uint8_t> in, int64_t panel, Components &rows) const {
  int64_t first = panel * lanes, count = std::min(lanes, n - first);
  if (panel < 0 || panel >= panels() || first < rows.firstRow ||
      first + count > rows.firstRow + rows.rows || rows.cols != k)
    return createStringError("panel " + Twine(panel) + " of a " + Twine(n) + " x " + Twine(k) +
                             " matrix does not lie in the rows given");
  int64_t stepsPerChunk = chunk / step;
  auto chunkStart = [&](int64_t c) { return headerBytes + c * chunkBytes; };

  for (const PackedLevel &level : levels) {
    Stream &stream = level.role == LevelRole::Scale    ? rows.scale[level.index]
                     : level.role == LevelRole::Offset ? rows.offset[level.index]
                                                       : rows.zero[level.index];
    int64_t tileRows = level.level.tile.rows;
    int64_t groups = level.groupColumns ? (k + level.groupColumns - 1) / level.groupColumns : 1;
    for (int64_t lane = 0; lane < count; ++lane) {
      int64_t row = tileRows ? (first + lane) / tileRows - rows.firstRow / tileRows : 0;
      for (int64_t g = 0; g < groups; ++g) {
        const uint8_t *base =
            level.groupColumns ? in.data() + chunkStart(g / level.groupsPerChunk) : in.data();
        uint32_t value = 0;
        for (const BitPlane &plane : level.planes)
          value |= getLevel(base, plane, level.groupColumns ? g % level.groupsPerChunk : 0, lane);
        stream.set(row, g, restore(level.level.number, value, isBiased(level.level.number)));
      }
    }
  }

  int64_t dim = spec.code.valuesPerIndex();
  SmallVector<BitPlane, 4> tailPlanes;
  stepPlanes(tailColumns(), tailPlanes);
  bool number = spec.code.kind == Code::Kind::Number;
  for (int64_t column = 0; column < k; column += dim) {
    int64_t s = column / step, j = column % step;
    ArrayRef<BitPlane> stepPlane = s == fullSteps() ? ArrayRef<BitPlane>(tailPlanes) : planes;
    const uint8_t *base =
        in.data() + chunkStart(s / stepsPerChunk) + levelBytes + s % stepsPerChunk * stepBytes;
    for (int64_t lane = 0; lane < count; ++lane) {
      uint32_t value = 0;
      switch (storage) {
      case CodeStorage::Planes:
        value = getQuad(base, stepPlane, j, lane);
        break;
      case CodeStorage::Digits:
        value = getDigit(base, j, lane);
        break;
      case CodeStorage::Pairs16:
        value = support::endian::read16le(base + (j / 2 * lanes + lane) * 4 + j % 2 * 2);
        break;
      case CodeStorage::Indices:
      case CodeStorage::Words16:
      case CodeStorage::Words32:
        for (const BitPlane &plane : stepPlane)
          value |= getLevel(base, plane, j / dim, lane);
        break;
      }
      uint64_t raw = number ? restore(spec.code.number, value, codesAreBiased()) : value;
      rows.codes.set(first - rows.firstRow + lane, column / dim, raw);
    }
  }
  return Error::success();
}
