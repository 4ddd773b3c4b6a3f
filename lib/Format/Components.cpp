//===- Components.cpp - Shapes of unpacked matrices -----------------------===//
//
// Allocation and checking; Decode.cpp gives components their meaning.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Components.h"
#include "llvm/ADT/Twine.h"
#include <cstring>

using namespace quern::format;

void Stream::resize(unsigned newElementBytes, int64_t newRows, int64_t newCols) {
  elementBytes = newElementBytes;
  rows = newRows;
  cols = newCols;
  bytes.assign(uint64_t(rows) * uint64_t(cols) * elementBytes, 0);
}

uint64_t Stream::get(int64_t row, int64_t col) const {
  uint64_t raw = 0;
  std::memcpy(&raw, &bytes[uint64_t(row * cols + col) * elementBytes], elementBytes);
  return raw;
}

void Stream::set(int64_t row, int64_t col, uint64_t raw) {
  std::memcpy(&bytes[uint64_t(row * cols + col) * elementBytes], &raw, elementBytes);
}

unsigned quern::format::elementBytesFor(unsigned bits) {
  return bits <= 8 ? 1 : bits <= 16 ? 2 : bits <= 32 ? 4 : 8;
}

/// Rows of parameters that rows [firstRow, firstRow + rows) touch.
static int64_t levelRows(const Level &level, int64_t firstRow, int64_t rows) {
  if (level.tile.rows == 0)
    return 1;
  if (rows == 0)
    return 0;
  return (firstRow + rows - 1) / level.tile.rows - firstRow / level.tile.rows + 1;
}

/// Calls visit(stream, elementBytes, rows, cols) for each array a Base format has.
template <typename C, typename Visit>
static void forEachStream(const Spec &spec, C &components, const Visit &visit) {
  Extents e = extents(spec, components.rows, components.cols);
  visit(components.codes, elementBytesFor(spec.code.bitsPerIndex()), e.rows, e.codesPerRow);
  auto levels = [&](const std::vector<Level> &levels, auto &streams) {
    for (size_t i = 0; i < levels.size(); ++i)
      visit(streams[i], elementBytesFor(levels[i].number.bits),
            levelRows(levels[i], components.firstRow, components.rows),
            levelExtents(spec, levels[i], components.rows, components.cols).cols);
  };
  levels(spec.scale, components.scale);
  levels(spec.offset, components.offset);
  levels(spec.zero, components.zero);
}

static size_t learnedEntries(const Spec &spec) {
  const Table &table = spec.code.table;
  if (spec.kind != Spec::Kind::Base || spec.code.kind != Code::Kind::Table || !table.isLearned())
    return 0;
  return (size_t(1) << table.indexBits) * table.dim;
}

void quern::format::allocate(const Spec &spec, int64_t firstRow, int64_t rows, int64_t cols,
                             Components &out, llvm::ArrayRef<int64_t> splitCols) {
  out.firstRow = firstRow;
  out.rows = rows;
  out.cols = cols;
  bool isBase = spec.kind == Spec::Kind::Base;
  out.scale.resize(isBase ? spec.scale.size() : 0);
  out.offset.resize(isBase ? spec.offset.size() : 0);
  out.zero.resize(isBase ? spec.zero.size() : 0);
  out.table.assign(learnedEntries(spec), 0.0f);
  out.terms.resize(spec.terms.size());
  out.permutation.clear();
  if (isBase) {
    forEachStream(spec, out, [](Stream &stream, unsigned elementBytes, int64_t r, int64_t c) {
      stream.resize(elementBytes, r, c);
    });
    return;
  }
  out.codes.resize(1, 0, 0);
  bool isSplit = spec.kind == Spec::Kind::Split;
  for (size_t i = 0; i < spec.terms.size(); ++i)
    allocate(spec.terms[i], firstRow, rows, isSplit ? splitCols[i] : cols, out.terms[i]);
  if (isSplit)
    for (int64_t j = 0; j < cols; ++j)
      out.permutation.push_back(int32_t(j));
}

static llvm::Error verifySplit(const Components &components) {
  int64_t cols = 0;
  for (const Components &term : components.terms)
    cols += term.cols;
  if (cols != components.cols || int64_t(components.permutation.size()) != cols)
    return llvm::createStringError("the column sets of a split do not add up to its columns");
  std::vector<bool> seen(cols);
  for (int32_t column : components.permutation) {
    if (column < 0 || column >= cols || seen[column])
      return llvm::createStringError("a split's permutation lists column " + llvm::Twine(column) +
                                     " twice or out of range");
    seen[column] = true;
  }
  return llvm::Error::success();
}

llvm::Error quern::format::verify(const Spec &spec, const Components &components) {
  if (components.rows < 0 || components.cols < 0 || components.firstRow < 0)
    return llvm::createStringError("components with a negative number of rows or columns");
  if (components.terms.size() != spec.terms.size())
    return llvm::createStringError("components of a sum or split without one per term");
  if (spec.kind != Spec::Kind::Base) {
    for (size_t i = 0; i < spec.terms.size(); ++i) {
      const Components &term = components.terms[i];
      if (term.rows != components.rows || term.firstRow != components.firstRow ||
          (spec.kind == Spec::Kind::Sum && term.cols != components.cols))
        return llvm::createStringError("a term covers other rows or columns than the whole");
      if (llvm::Error error = verify(spec.terms[i], term))
        return error;
    }
    return spec.kind == Spec::Kind::Split ? verifySplit(components) : llvm::Error::success();
  }
  if (components.scale.size() != spec.scale.size() ||
      components.offset.size() != spec.offset.size() || components.zero.size() != spec.zero.size())
    return llvm::createStringError("components with other numbers of levels than '" + print(spec) +
                                   "'");
  if (components.table.size() != learnedEntries(spec))
    return llvm::createStringError(
        "a learned table of " + llvm::Twine(uint64_t(components.table.size())) +
        " values; expected " + llvm::Twine(uint64_t(learnedEntries(spec))));
  std::string message;
  forEachStream(spec, components,
                [&](const Stream &s, unsigned elementBytes, int64_t rows, int64_t cols) {
                  bool ok = s.elementBytes == elementBytes && s.rows == rows && s.cols == cols &&
                            s.bytes.size() == uint64_t(rows) * uint64_t(cols) * elementBytes;
                  if (ok || !message.empty())
                    return;
                  message = ("an array of " + llvm::Twine(s.rows) + "x" + llvm::Twine(s.cols) +
                             " elements of " + llvm::Twine(s.elementBytes) + " bytes; expected " +
                             llvm::Twine(rows) + "x" + llvm::Twine(cols) + " of " +
                             llvm::Twine(elementBytes) + " for '" + print(spec) + "'")
                                .str();
                });
  if (!message.empty())
    return llvm::createStringError(message);
  return llvm::Error::success();
}
