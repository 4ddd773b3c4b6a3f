//===- PackPanels.cpp - Writing panels of 16 rows -------------------------===//
//
// Bit planes lane by lane, digits, levels, learned tables and permutations. See
// PackedLayout.h for where they lie.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Number.h"
#include "quern/Format/PackedLayout.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/Endian.h"
#include <bit>
#include <cstring>

using namespace llvm;
using namespace quern::format;

static constexpr int64_t lanes = PackedLayout::panelRows;

/// Stores the low `plane.width` bits of `value` >> plane.shift of entry `index`, lane `lane`;
/// `perByte` entries of one plane share a byte, `stride` bytes apart.
static void putLevel(uint8_t *base, const BitPlane &plane, int64_t index, int64_t lane,
                     uint32_t value) {
  uint8_t *at = base + plane.offset;
  if (plane.width >= 8) {
    at += (index * lanes + lane) * (plane.width / 8);
    uint32_t part = value >> plane.shift;
    if (plane.width == 8)
      *at = uint8_t(part);
    else if (plane.width == 16)
      support::endian::write16le(at, uint16_t(part));
    else
      support::endian::write32le(at, part);
    return;
  }
  int64_t perByte = 8 / plane.width;
  uint32_t part = (value >> plane.shift) & ((1u << plane.width) - 1);
  at[index / perByte * lanes + lane] |= uint8_t(part << (index % perByte * plane.width));
}

/// Writes one plane of a step from its codes, [16][columns], a byte each.
static void putQuads(uint8_t *base, const BitPlane &plane, const uint8_t *codes, int64_t columns) {
  int64_t perByte = 8 / plane.width, quads = columns / 4;
  uint8_t mask = uint8_t((1u << plane.width) - 1);
  for (int64_t quad = 0; quad < quads; ++quad) {
    uint8_t *at = base + plane.offset + quad / perByte * 64;
    unsigned place = quad % perByte * plane.width;
    for (int64_t lane = 0; lane < lanes; ++lane)
      for (int64_t j = 0; j < 4; ++j) {
        uint8_t part = (codes[lane * columns + quad * 4 + j] >> plane.shift) & mask;
        at[lane * 4 + j] |= uint8_t(part << place);
      }
  }
}

/// Five quads to 64 bytes. A byte holds v / 3^5 as a fraction of 256, rounded up, so that the first
/// digit is what is carried out of a product with 3, and the rest of it holds the others.
static void putDigits(uint8_t *base, const uint8_t *codes, int64_t columns) {
  int64_t quads = columns / 4, perByte = PackedLayout::digitsPerByte;
  for (int64_t first = 0; first < quads; first += perByte)
    for (int64_t i = 0; i < lanes * 4; ++i) {
      unsigned digits = 0;
      for (int64_t quad = first; quad < first + perByte; ++quad) {
        unsigned digit = quad < quads ? codes[i / 4 * columns + quad * 4 + i % 4] : 0;
        digits = digits * 3 + std::min(digit, 2u);
      }
      base[first / perByte * lanes * 4 + i] = uint8_t((digits * 256 + 242) / 243);
    }
}

/// The stored pattern of a number: biased if the layout says so, f64 narrowed.
static uint32_t pattern(const Number &number, uint64_t raw, bool biased) {
  if (number.isFloat(FloatKind::F64))
    return std::bit_cast<uint32_t>(decodeNumber(number, raw));
  uint64_t mask = number.bits >= 32 ? 0xffffffffu : (uint64_t(1) << number.bits) - 1;
  return uint32_t((raw ^ (biased ? uint64_t(1) << (number.bits - 1) : 0)) & mask);
}

Expected<SmallVector<const Components *>> PackedLayout::dataOfTerms(const Components &rows) const {
  SmallVector<const Components *> result;
  for (const Components &term : rows.terms) {
    if (term.terms.empty())
      result.push_back(&term);
    for (const Components &part : term.terms)
      result.push_back(&part);
  }
  if (result.size() != terms.size())
    return createStringError("a format of " + Twine(uint64_t(terms.size())) +
                             " terms has data for " + Twine(uint64_t(result.size())));
  return result;
}

Error PackedLayout::packPanel(const Components &rows, int64_t panel,
                              MutableArrayRef<uint8_t> out) const {
  if (int64_t(out.size()) != panelBytes)
    return createStringError("a panel has " + Twine(panelBytes) + " bytes, not " +
                             Twine(uint64_t(out.size())));
  if (terms.empty())
    return packTerm(rows, panel, out);
  Expected<SmallVector<const Components *>> data = dataOfTerms(rows);
  if (!data)
    return data.takeError();
  for (auto [term, part] : llvm::zip(terms, *data))
    if (Error error = term.packTerm(*part, panel, out.slice(term.panelStart, term.panelBytes)))
      return error;
  return Error::success();
}

Error PackedLayout::packTables(const Components &rows, MutableArrayRef<uint8_t> out) const {
  if (int64_t(out.size()) != tableBytes)
    return createStringError("learned tables have " + Twine(tableBytes) + " bytes, not " +
                             Twine(uint64_t(out.size())));
  Expected<SmallVector<const Components *>> data = dataOfTerms(rows);
  if (!data)
    return data.takeError();
  for (auto [term, part] : llvm::zip(terms, *data))
    if (Error error =
            term.packTables(*part, out.slice(term.tableStart - tableStart, term.tableBytes)))
      return error;
  if (spec.kind == Spec::Kind::Split) {
    if (int64_t(rows.permutation.size()) != k)
      return createStringError("a permutation of " + Twine(uint64_t(rows.permutation.size())) +
                               " columns for a matrix of " + Twine(k));
    for (auto [i, column] : llvm::enumerate(rows.permutation))
      support::endian::write32le(out.data() + permutationStart - tableStart + 4 * i,
                                 uint32_t(column));
  }
  if (!terms.empty() || tableBytes == 0)
    return Error::success();
  int64_t each = tableEntryBytes();
  if (int64_t(rows.table.size()) * each > tableBytes)
    return createStringError("a learned table of " + Twine(uint64_t(rows.table.size())) +
                             " entries is larger than its format");
  std::memset(out.data(), 0, out.size());
  for (auto [i, entry] : llvm::enumerate(rows.table))
    if (each == 2)
      support::endian::write16le(out.data() + 2 * i,
                                 uint16_t(encodeNumber(spec.code.table.entryNumber, entry)));
    else
      support::endian::write32le(out.data() + 4 * i, std::bit_cast<uint32_t>(entry));
  return Error::success();
}

Error PackedLayout::packTerm(const Components &rows, int64_t panel,
                             MutableArrayRef<uint8_t> out) const {
  int64_t first = panel * lanes, count = std::min(lanes, n - first);
  if (panel < 0 || panel >= panels() || int64_t(out.size()) != panelBytes ||
      first < rows.firstRow || first + count > rows.firstRow + rows.rows || rows.cols != k)
    return createStringError("panel " + Twine(panel) + " of a " + Twine(n) + " x " + Twine(k) +
                             " matrix does not lie in the rows given");
  std::memset(out.data(), 0, out.size());
  int64_t stepsPerChunk = chunk / step;
  auto chunkStart = [&](int64_t c) { return headerBytes + c * chunkBytes; };

  for (const PackedLevel &level : levels) {
    const Stream &stream = level.role == LevelRole::Scale    ? rows.scale[level.index]
                           : level.role == LevelRole::Offset ? rows.offset[level.index]
                                                             : rows.zero[level.index];
    bool biased = isBiased(level.level.number);
    int64_t tileRows = level.level.tile.rows;
    int64_t groups = level.groupColumns ? (k + level.groupColumns - 1) / level.groupColumns : 1;
    if (stream.cols < groups)
      return createStringError("a level has " + Twine(stream.cols) + " parameters a row, " +
                               Twine(groups) + " are needed");
    for (int64_t lane = 0; lane < count; ++lane) {
      int64_t row = tileRows ? (first + lane) / tileRows - rows.firstRow / tileRows : 0;
      for (int64_t g = 0; g < groups; ++g) {
        uint32_t value = pattern(level.level.number, stream.get(row, g), biased);
        uint8_t *base =
            level.groupColumns ? out.data() + chunkStart(g / level.groupsPerChunk) : out.data();
        for (const BitPlane &plane : level.planes)
          putLevel(base, plane, level.groupColumns ? g % level.groupsPerChunk : 0, lane, value);
      }
    }
  }

  int64_t dim = spec.code.valuesPerIndex(), perRow = (k + dim - 1) / dim;
  if (rows.codes.cols < perRow)
    return createStringError("a row has " + Twine(rows.codes.cols) + " codes, " + Twine(perRow) +
                             " are needed");
  SmallVector<BitPlane, 4> tailPlanes;
  stepPlanes(tailColumns(), tailPlanes);
  bool number = spec.code.kind == Code::Kind::Number;
  bool inQuads = storage == CodeStorage::Planes || storage == CodeStorage::Digits;
  if (inQuads && rows.codes.elementBytes != 1)
    return createStringError("codes of at most 8 bits come in " + Twine(rows.codes.elementBytes) +
                             " bytes each; expected 1");
  std::vector<uint8_t> stepCodes;
  uint32_t zeroCode = codesAreBiased() ? 1u << (spec.code.number.bits - 1) : 0;
  for (int64_t s = 0; s * step < k; ++s) {
    bool isTail = s == fullSteps();
    ArrayRef<BitPlane> stepPlane = isTail ? ArrayRef<BitPlane>(tailPlanes) : planes;
    uint8_t *base =
        out.data() + chunkStart(s / stepsPerChunk) + levelBytes + s % stepsPerChunk * stepBytes;
    int64_t columns = isTail ? tailColumns() : step;
    if (inQuads) {
      stepCodes.assign(lanes * columns, uint8_t(zeroCode));
      uint8_t flip = uint8_t(zeroCode), mask = uint8_t((1u << spec.code.bitsPerIndex()) - 1);
      for (int64_t lane = 0; lane < count; ++lane) {
        const uint8_t *from = rows.codes.data<uint8_t>() +
                              (first - rows.firstRow + lane) * rows.codes.cols + s * step;
        int64_t present = std::min(columns, k - s * step);
        for (int64_t j = 0; j < present; ++j)
          stepCodes[lane * columns + j] = (from[j] ^ flip) & mask;
      }
      if (storage == CodeStorage::Digits)
        putDigits(base, stepCodes.data(), columns);
      else
        for (const BitPlane &plane : stepPlane)
          putQuads(base, plane, stepCodes.data(), columns);
      continue;
    }
    for (int64_t j = 0; j < columns; j += dim) {
      int64_t column = s * step + j;
      for (int64_t lane = 0; lane < lanes; ++lane) {
        uint32_t value = zeroCode;
        if (lane < count && column < k) {
          uint64_t raw = rows.codes.get(first - rows.firstRow + lane, column / dim);
          value = number ? pattern(spec.code.number, raw, codesAreBiased()) : uint32_t(raw);
        }
        for (const BitPlane &plane : stepPlane)
          switch (storage) {
          case CodeStorage::Planes: // bytes, done above
          case CodeStorage::Digits:
            break;
          case CodeStorage::Indices:
            putLevel(base, plane, j / dim, lane, value);
            break;
          case CodeStorage::Pairs16:
            support::endian::write16le(base + (j / 2 * lanes + lane) * 4 + j % 2 * 2,
                                       uint16_t(value));
            break;
          case CodeStorage::Words16:
          case CodeStorage::Words32:
            putLevel(base, plane, j, lane, value);
            break;
          }
      }
    }
  }
  return Error::success();
}
