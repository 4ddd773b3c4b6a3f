//===- PackedLayout.cpp - Where weights lie in panels of 16 rows ----------===//
//
// Sizes and places, which follow from the format and the shape alone. See the header.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/PackedLayout.h"
#include "llvm/ADT/STLExtras.h"
#include <bit>
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
  bool isSplit = spec.kind == Spec::Kind::Split;
  std::vector<int64_t> columns(spec.terms.size(), k);
  if (isSplit) {
    auto sets = splitColumns(spec, k);
    if (!sets)
      return sets.takeError();
    columns = std::move(*sets);
  }
  int64_t columnStart = 0;
  auto addTerm = [&](const Spec &term, int64_t count) -> Error {
    auto base = getBase(term, n, count);
    if (!base)
      return base.takeError();
    base->columnStart = columnStart;
    base->panelStart = l.panelBytes;
    l.panelBytes += base->panelBytes;
    l.terms.push_back(std::move(*base));
    return Error::success();
  };
  for (auto [term, count] : llvm::zip(spec.terms, columns)) {
    if (term.kind == Spec::Kind::Base) {
      if (Error error = addTerm(term, count))
        return std::move(error);
    }
    for (const Spec &part : term.terms) // a sum within a split
      if (Error error = addTerm(part, count))
        return std::move(error);
    columnStart += isSplit ? count : 0;
  }
  l.panelStride = l.panelBytes;
  l.tableStart = l.panels() * l.panelStride;
  for (PackedLayout &term : l.terms) {
    term.panelStride = l.panelStride;
    term.tableStart = l.tableStart + l.tableBytes;
    l.tableBytes += term.tableBytes;
  }
  if (isSplit) {
    l.permutationStart = l.tableStart + l.tableBytes;
    l.tableBytes += roundUp(4 * k, 64);
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
