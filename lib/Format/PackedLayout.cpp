//===- PackedLayout.cpp - Panels of 16 rows from unpacked components ------===//
//
// Sizes follow from the format alone; packing writes bit planes lane by lane. See the
// header for the layout.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/PackedLayout.h"
#include "quern/Format/Number.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/Endian.h"
#include <bit>
#include <cstring>
#include <numeric>

using namespace llvm;
using namespace quern::format;

static constexpr int64_t lanes = PackedLayout::panelRows;
/// Activations come in groups of 32 columns; steps are whole groups.
static constexpr int64_t activationGroup = 32;
/// Kernels unroll a step, and a chunk is the unit of padding: both stay bounded.
static constexpr int64_t largestStep = 128, largestChunk = int64_t(1) << 20;

static int64_t roundUp(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

/// The planes a number of `bits` bits is split into, offsets still unset.
static SmallVector<BitPlane, 4> splitBits(unsigned bits) {
  SmallVector<BitPlane, 4> planes;
  if (bits >= 8) {
    planes.push_back({unsigned(std::bit_ceil(bits)), 0, 0});
    return planes;
  }
  unsigned shift = 0;
  for (unsigned width : {4u, 2u, 1u})
    if (bits & width) {
      planes.push_back({width, shift, 0});
      shift += width;
    }
  return planes;
}

/// An f64 level is kept as f32, to which it decodes anyway.
static unsigned packedBits(const Number &number) {
  return number.isFloat(FloatKind::F64) ? 32 : number.bits;
}

static Error unsupported(const Spec &spec, const Twine &why) {
  return createStringError("format '" + print(spec) + "' has no packed layout: " + why);
}

/// Bytes one group of columns takes in a plane of levels, 16 lanes.
static int64_t levelPlaneBytes(unsigned width, int64_t groups) {
  return width >= 8 ? groups * lanes * (width / 8) : (groups + 8 / width - 1) / (8 / width) * lanes;
}

int64_t PackedLayout::stepPlanes(int64_t columns, SmallVectorImpl<BitPlane> &result) const {
  int64_t offset = 0;
  SmallVector<BitPlane, 4> placed(planes); // `result` may be `planes` itself
  for (BitPlane &plane : placed) {
    plane.offset = offset;
    switch (storage) {
    case CodeStorage::Planes:
      offset += roundUp(columns, 32 / plane.width) * lanes * plane.width / 8;
      break;
    case CodeStorage::Digits:
      offset += (columns / 4 + digitsPerByte - 1) / digitsPerByte * lanes * 4;
      break;
    case CodeStorage::Indices: {
      int64_t indices = (columns + spec.code.valuesPerIndex() - 1) / spec.code.valuesPerIndex();
      offset += levelPlaneBytes(plane.width, indices);
      break;
    }
    case CodeStorage::Pairs16:
    case CodeStorage::Words16:
    case CodeStorage::Words32:
      offset += columns * lanes * plane.width / 8;
      break;
    }
  }
  result.assign(placed.begin(), placed.end());
  return offset;
}

Expected<PackedLayout> PackedLayout::get(const Spec &spec, int64_t n, int64_t k) {
  if (n <= 0 || k <= 0)
    return unsupported(spec, "the matrix is empty");
  if (spec.kind == Spec::Kind::Split)
    return unsupported(spec, "column splits are not packed yet");
  PackedLayout l;
  if (spec.kind == Spec::Kind::Base) {
    auto base = getBase(spec, n, k);
    if (!base)
      return base.takeError();
    l = std::move(*base);
    l.panelStride = l.panelBytes;
    l.tableStart = l.panels() * l.panelStride;
    return l;
  }
  l.spec = spec;
  l.n = n;
  l.k = k;
  for (const Spec &term : spec.terms) {
    auto base = term.kind == Spec::Kind::Base
                    ? getBase(term, n, k)
                    : Expected<PackedLayout>(unsupported(spec, "a term is not a base format"));
    if (!base)
      return base.takeError();
    base->panelStart = l.panelBytes;
    l.panelBytes += base->panelBytes;
    l.terms.push_back(std::move(*base));
  }
  l.panelStride = l.panelBytes;
  l.tableStart = l.panels() * l.panelStride;
  for (PackedLayout &term : l.terms) {
    term.panelStride = l.panelStride;
    term.tableStart = l.tableStart + l.tableBytes;
    l.tableBytes += term.tableBytes;
  }
  return l;
}

Expected<PackedLayout> PackedLayout::getBase(const Spec &spec, int64_t n, int64_t k) {
  PackedLayout l;
  l.spec = spec;
  l.n = n;
  l.k = k;
  unsigned bits = spec.code.bitsPerIndex();
  int64_t dim = spec.code.valuesPerIndex();
  bool isNumber = spec.code.kind == Code::Kind::Number;
  l.step = activationGroup;
  bool table = spec.code.kind == Code::Kind::Table;
  if (table && (dim > 1 || bits > 8 || spec.code.table.isLearned())) {
    if (bits > 32)
      return unsupported(spec, "an index has more than 32 bits");
    if (spec.code.table.isLearned())
      l.tableBytes =
          roundUp((l.tableEntryBytes() << spec.code.table.indexBits) * spec.code.table.dim, 64);
    l.storage = CodeStorage::Indices;
    // Indices of more than 8 bits are cut into bytes and a rest.
    for (unsigned shift = 0; shift < bits;) {
      for (BitPlane plane : splitBits(std::min(bits - shift, 8u))) {
        plane.shift += shift;
        l.planes.push_back(plane);
      }
      shift += 8;
    }
    for (const BitPlane &plane : l.planes)
      l.step = std::lcm(l.step, dim * (8 / plane.width));
  } else if (spec.code.kind == Code::Kind::Ternary && spec.code.base3) {
    l.storage = CodeStorage::Digits;
    l.planes.push_back({8, 0, 0});
    l.step = std::lcm(l.step, 4 * digitsPerByte);
  } else if (bits <= 8) {
    l.storage = CodeStorage::Planes;
    l.planes = splitBits(bits);
  } else if (isNumber && packedBits(spec.code.number) <= 32) {
    l.storage = spec.code.number.isFloat(FloatKind::BF16) ? CodeStorage::Pairs16
                : packedBits(spec.code.number) <= 16      ? CodeStorage::Words16
                                                          : CodeStorage::Words32;
    l.planes.push_back({l.storage == CodeStorage::Words32 ? 32u : 16u, 0, 0});
  } else {
    return unsupported(spec, "a code has " + Twine(bits) + " bits");
  }

  SmallVector<int64_t, 4> groups;
  auto addLevels = [&](LevelRole role, ArrayRef<Level> list) {
    for (auto [index, level] : llvm::enumerate(list)) {
      l.levels.push_back(
          {role, unsigned(index), level, level.tile.cols, 1, splitBits(packedBits(level.number))});
      if (level.tile.cols > 0)
        groups.push_back(level.tile.cols);
    }
  };
  addLevels(LevelRole::Scale, spec.scale);
  addLevels(LevelRole::Offset, spec.offset);
  addLevels(LevelRole::Zero, spec.zero);
  llvm::sort(groups);
  for (int64_t g : groups) {
    if (g > largestChunk)
      return unsupported(spec, "a group of " + Twine(g) + " columns");
    // Where no small step is made of whole groups, groups end within steps.
    if (g % l.step != 0 && std::lcm(l.step, g) <= largestStep)
      l.step = std::lcm(l.step, g);
  }
  l.chunk = l.step;
  for (int64_t g : groups) {
    l.chunk = std::lcm(l.chunk, g);
    if (l.chunk > largestChunk)
      return unsupported(spec, "groups whose sizes have no small common multiple");
  }
  auto layOutLevels = [&] {
    l.levelBytes = l.headerBytes = 0;
    int64_t used = 0; // bits that a perfectly dense layout would take
    for (PackedLevel &level : l.levels) {
      level.groupsPerChunk = 1;
      if (int64_t g = level.groupColumns) // no more than a matrix of one chunk has
        level.groupsPerChunk = (std::min(l.chunk, roundUp(k, activationGroup)) + g - 1) / g;
      int64_t &offset = level.groupColumns ? l.levelBytes : l.headerBytes;
      for (BitPlane &plane : level.planes) {
        plane.offset = offset;
        offset += levelPlaneBytes(plane.width, level.groupsPerChunk);
        if (level.groupColumns)
          used += level.groupsPerChunk * lanes * plane.width;
      }
    }
    return l.levelBytes * 8 == used;
  };
  // Small chunks grow until level planes are full and codes start on a cache line.
  while ((!layOutLevels() || l.levelBytes % 64 != 0) && l.chunk <= 128 && k % (2 * l.chunk) == 0)
    l.chunk *= 2;
  layOutLevels();

  l.stepBytes = l.stepPlanes(l.step, l.planes);
  l.chunkBytes = l.levelBytes + l.chunk / l.step * l.stepBytes;
  int64_t full = l.fullSteps();
  int64_t chunks = (k + l.chunk - 1) / l.chunk;
  SmallVector<BitPlane, 4> scratch;
  int64_t tail = l.tailColumns() ? l.stepPlanes(l.tailColumns(), scratch) : 0;
  l.headerBytes = roundUp(l.headerBytes, 64);
  l.panelBytes = roundUp(l.headerBytes + chunks * l.levelBytes + full * l.stepBytes + tail, 64);
  return l;
}

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

Error PackedLayout::packPanel(const Components &rows, int64_t panel,
                              MutableArrayRef<uint8_t> out) const {
  if (int64_t(out.size()) != panelBytes)
    return createStringError("a panel has " + Twine(panelBytes) + " bytes, not " +
                             Twine(uint64_t(out.size())));
  if (terms.empty())
    return packTerm(rows, panel, out);
  if (rows.terms.size() != terms.size())
    return createStringError("a sum of " + Twine(uint64_t(terms.size())) + " terms has data for " +
                             Twine(uint64_t(rows.terms.size())));
  for (auto [term, data] : llvm::zip(terms, rows.terms))
    if (Error error = term.packTerm(data, panel, out.slice(term.panelStart, term.panelBytes)))
      return error;
  return Error::success();
}

Error PackedLayout::packTables(const Components &rows, MutableArrayRef<uint8_t> out) const {
  if (int64_t(out.size()) != tableBytes)
    return createStringError("learned tables have " + Twine(tableBytes) + " bytes, not " +
                             Twine(uint64_t(out.size())));
  for (size_t i = 0; i < terms.size(); ++i)
    if (Error error = terms[i].packTables(
            rows.terms[i], out.slice(terms[i].tableStart - tableStart, terms[i].tableBytes)))
      return error;
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
