//===- Canonical.cpp - The canonical layout of a format -------------------===//
//
// One byte array per component; within a row and storage tile an LSB-first bit
// stream that starts on a byte.
//
//===----------------------------------------------------------------------===//
#include "BlockLayout.h"
#include "quern/Format/FileType.h"
#include "quern/Format/Number.h"
#include "llvm/ADT/Twine.h"
#include <cstring>

using namespace quern::format;

static int64_t slicedRows(const Level &level, int64_t firstRow, int64_t rows) {
  if (level.tile.rows == 0)
    return 1;
  return rows == 0 ? 0 : (firstRow + rows - 1) / level.tile.rows - firstRow / level.tile.rows + 1;
}

static std::vector<ComponentInfo> componentsOfSlice(const Spec &spec, int64_t firstRow,
                                                    int64_t rows, int64_t cols) {
  Extents e = extents(spec, rows, cols);
  std::vector<ComponentInfo> infos = {
      {Role::Codes, 0, rows, uint64_t(e.tilesPerRow) * e.codeBytesPerTile}};
  auto add = [&](Role role, const std::vector<Level> &levels) {
    for (size_t i = 0; i < levels.size(); ++i)
      infos.push_back({role, unsigned(i), slicedRows(levels[i], firstRow, rows),
                       levelExtents(spec, levels[i], rows, cols).bytesPerRow});
  };
  add(Role::Scale, spec.scale);
  add(Role::Offset, spec.offset);
  add(Role::Zero, spec.zero);
  const Table &table = spec.code.table;
  if (spec.code.kind == Code::Kind::Table && table.isLearned())
    infos.push_back({Role::Table, 0, 1,
                     ((uint64_t(table.dim) << table.indexBits) * table.entryNumber.bits + 7) / 8});
  return infos;
}

std::vector<ComponentInfo> quern::format::canonicalComponents(const Spec &spec, int64_t rows,
                                                              int64_t cols) {
  return componentsOfSlice(spec, 0, rows, cols);
}

//===----------------------------------------------------------------------===//
// Bit streams
//===----------------------------------------------------------------------===//

static uint64_t lowMask(unsigned bits) {
  return bits == 64 ? ~uint64_t(0) : (uint64_t(1) << bits) - 1;
}

/// Reads `count` fields of `bits` bits into elements of `elementBytes` bytes.
static void readBits(const uint8_t *from, int64_t count, unsigned bits, bool isSigned, uint8_t *to,
                     unsigned elementBytes) {
  if (bits == 8 * elementBytes) {
    std::memcpy(to, from, count * elementBytes);
    return;
  }
  unsigned __int128 buffer = 0;
  unsigned held = 0;
  uint64_t mask = lowMask(bits);
  for (int64_t i = 0; i < count; ++i) {
    for (; held < bits; held += 8)
      buffer |= (unsigned __int128)(*from++) << held;
    uint64_t raw = uint64_t(buffer) & mask;
    buffer >>= bits;
    held -= bits;
    if (isSigned)
      raw = uint64_t(int64_t(raw << (64 - bits)) >> (64 - bits));
    std::memcpy(to + i * elementBytes, &raw, elementBytes);
  }
}

static void writeBits(const uint8_t *from, int64_t count, unsigned bits, uint8_t *to,
                      unsigned elementBytes) {
  if (bits == 8 * elementBytes) {
    std::memcpy(to, from, count * elementBytes);
    return;
  }
  unsigned __int128 buffer = 0;
  unsigned held = 0;
  uint64_t mask = lowMask(bits);
  for (int64_t i = 0; i < count; ++i) {
    uint64_t raw = 0;
    std::memcpy(&raw, from + i * elementBytes, elementBytes);
    buffer |= (unsigned __int128)(raw & mask) << held;
    for (held += bits; held >= 8; held -= 8, buffer >>= 8)
      *to++ = uint8_t(buffer);
  }
  if (held != 0)
    *to = uint8_t(buffer);
}

static void readTrits(const uint8_t *from, int64_t count, uint8_t *to) {
  for (int64_t i = 0; i < count; ++i)
    to[i] = uint8_t(tritOf(from[i / 5], i % 5));
}

static void writeTrits(const uint8_t *from, int64_t count, uint8_t *to) {
  for (int64_t i = 0; i < count; i += 5) {
    unsigned digits[5] = {};
    for (int64_t j = i; j < std::min(i + 5, count); ++j)
      digits[j - i] = std::min<unsigned>(from[j], 2);
    to[i / 5] = tritByte(digits);
  }
}

namespace {
/// How one component's stream divides into tiles.
struct StreamShape {
  unsigned bits;
  bool isSigned;
  bool base3;
  int64_t rows;
  int64_t tiles;   ///< in a row
  int64_t perTile; ///< elements
  uint64_t bytesPerTile;
};
} // namespace

static void readStream(const StreamShape &shape, const uint8_t *from, Stream &to) {
  uint8_t *out = to.bytes.data();
  for (int64_t t = 0; t < shape.rows * shape.tiles; ++t) {
    if (shape.base3)
      readTrits(from, shape.perTile, out);
    else
      readBits(from, shape.perTile, shape.bits, shape.isSigned, out, to.elementBytes);
    from += shape.bytesPerTile;
    out += shape.perTile * to.elementBytes;
  }
}

static void writeStream(const StreamShape &shape, const Stream &from, uint8_t *to) {
  const uint8_t *in = from.bytes.data();
  for (int64_t t = 0; t < shape.rows * shape.tiles; ++t) {
    if (shape.base3)
      writeTrits(in, shape.perTile, to);
    else
      writeBits(in, shape.perTile, shape.bits, to, from.elementBytes);
    to += shape.bytesPerTile;
    in += shape.perTile * from.elementBytes;
  }
}

static StreamShape shapeOf(const Spec &spec, const ComponentInfo &info, int64_t rows,
                           int64_t cols) {
  Extents e = extents(spec, rows, cols);
  if (info.role == Role::Codes)
    return {spec.code.bitsPerIndex(),
            spec.code.kind != Code::Kind::Table && spec.code.number.kind == Number::Kind::Signed,
            spec.code.base3,
            rows,
            e.tilesPerRow,
            e.codesPerTile,
            e.codeBytesPerTile};
  const auto &levels = info.role == Role::Scale    ? spec.scale
                       : info.role == Role::Offset ? spec.offset
                                                   : spec.zero;
  const Level &level = levels[info.level];
  LevelExtents l = levelExtents(spec, level, rows, cols);
  return {level.number.bits, level.number.kind == Number::Kind::Signed, false,
          info.rows,         l.perTile == 0 ? 0 : l.cols / l.perTile,   l.perTile,
          l.bytesPerTile};
}

template <typename C> static auto &streamOf(const ComponentInfo &info, C &components) {
  switch (info.role) {
  case Role::Scale:
    return components.scale[info.level];
  case Role::Offset:
    return components.offset[info.level];
  case Role::Zero:
    return components.zero[info.level];
  default:
    return components.codes;
  }
}

llvm::Error quern::format::unpackCanonical(const Spec &spec,
                                           llvm::ArrayRef<llvm::ArrayRef<uint8_t>> arrays,
                                           int64_t firstRow, int64_t rows, int64_t cols,
                                           Components &out) {
  if (spec.kind != Spec::Kind::Base)
    return llvm::createStringError("unpack each term of a sum or split by itself");
  // Checks the size before anything of that size is allocated.
  if (llvm::Expected<uint64_t> size = storedBytes(spec, {rows, cols}); !size)
    return size.takeError();
  std::vector<ComponentInfo> infos = componentsOfSlice(spec, firstRow, rows, cols);
  if (arrays.size() != infos.size())
    return llvm::createStringError(
        "'" + print(spec) + "': " + llvm::Twine(uint64_t(arrays.size())) +
        " component arrays; expected " + llvm::Twine(uint64_t(infos.size())));
  for (size_t i = 0; i < infos.size(); ++i)
    if (arrays[i].size() != infos[i].size())
      return llvm::createStringError("'" + print(spec) + "': component " +
                                     llvm::Twine(uint64_t(i)) + " of " + llvm::Twine(rows) + "x" +
                                     llvm::Twine(cols) + " has " +
                                     llvm::Twine(uint64_t(arrays[i].size())) + " bytes; expected " +
                                     llvm::Twine(infos[i].size()));
  allocate(spec, firstRow, rows, cols, out);
  for (size_t i = 0; i < infos.size(); ++i) {
    if (infos[i].role != Role::Table) {
      readStream(shapeOf(spec, infos[i], rows, cols), arrays[i].data(), streamOf(infos[i], out));
      continue;
    }
    const Number &number = spec.code.table.entryNumber;
    Stream entries;
    entries.resize(elementBytesFor(number.bits), 1, out.table.size());
    readBits(arrays[i].data(), entries.cols, number.bits, number.kind == Number::Kind::Signed,
             entries.bytes.data(), entries.elementBytes);
    for (int64_t e = 0; e < entries.cols; ++e)
      out.table[e] = decodeNumber(number, entries.get(0, e));
  }
  return llvm::Error::success();
}

llvm::Expected<std::vector<std::vector<uint8_t>>>
quern::format::packCanonical(const Spec &spec, const Components &components) {
  if (spec.kind != Spec::Kind::Base)
    return llvm::createStringError("pack each term of a sum or split by itself");
  if (llvm::Error error = verify(spec, components))
    return std::move(error);
  int64_t rows = components.rows, cols = components.cols;
  std::vector<std::vector<uint8_t>> arrays;
  for (const ComponentInfo &info : componentsOfSlice(spec, components.firstRow, rows, cols)) {
    std::vector<uint8_t> &bytes = arrays.emplace_back(info.size());
    if (info.role != Role::Table) {
      writeStream(shapeOf(spec, info, rows, cols), streamOf(info, components), bytes.data());
      continue;
    }
    const Number &number = spec.code.table.entryNumber;
    Stream entries;
    entries.resize(elementBytesFor(number.bits), 1, components.table.size());
    for (int64_t e = 0; e < entries.cols; ++e)
      entries.set(0, e, encodeNumber(number, components.table[e]));
    writeBits(entries.bytes.data(), entries.cols, number.bits, bytes.data(), entries.elementBytes);
  }
  return arrays;
}
