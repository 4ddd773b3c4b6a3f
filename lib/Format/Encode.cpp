//===- Encode.cpp - Rounding real matrices into a format ------------------===//
//
// Takes a format apart: terms of a sum one after the other, column sets, tables to be
// learned. What remains are codes with levels.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Encode.h"
#include "BaseEncoder.h"
#include "LearnedTable.h"
#include "llvm/ADT/Twine.h"
#include <algorithm>
#include <cmath>
#include <numeric>

using namespace quern::format;

/// Slices must hold whole tiles, or scales of different slices would contradict each other.
static llvm::Error checkTileRows(const Spec &spec, int64_t firstRow) {
  for (const auto *levels : {&spec.scale, &spec.offset, &spec.zero})
    for (const Level &level : *levels)
      if (level.tile.rows == 0 ? firstRow != 0 : firstRow % level.tile.rows != 0)
        return llvm::createStringError("encode: row " + llvm::Twine(firstRow) +
                                       " starts no tile of '" + print(spec) + "'");
  return llvm::Error::success();
}

/// Fits the table, then rounds to it as to one spelled out.
static llvm::Error encodeLearned(const Spec &spec, llvm::ArrayRef<float> values, Components &out,
                                 llvm::StringRef tensor) {
  out.table = learnTable(spec, values, out);
  for (float entry : out.table)
    if (!std::isfinite(entry))
      return llvm::createStringError("tensor '" + tensor +
                                     "': an entry of the table does not fit '" +
                                     print(spec.code.table.entryNumber) + "'");
  Spec fitted = spec;
  fitted.code.table.entries = out.table;
  return encodeBase(fitted, values, out, tensor);
}

static llvm::Error encodeAny(const Spec &spec, llvm::ArrayRef<float> values, Components &out,
                             llvm::StringRef tensor) {
  if (spec.kind == Spec::Kind::Base) {
    if (llvm::Error error = checkTileRows(spec, out.firstRow))
      return error;
    if (spec.code.kind == Code::Kind::Table && spec.code.table.isLearned())
      return encodeLearned(spec, values, out, tensor);
    return encodeBase(spec, values, out, tensor);
  }
  // Each term takes what the earlier ones left.
  std::vector<float> rest(values.begin(), values.end()), part(values.size());
  for (size_t t = 0; t < spec.terms.size(); ++t) {
    if (llvm::Error error = encodeAny(spec.terms[t], rest, out.terms[t], tensor))
      return error;
    if (llvm::Error error = decode(spec.terms[t], out.terms[t], part))
      return error;
    for (size_t i = 0; i < rest.size(); ++i)
      rest[i] = rest[i] - part[i];
  }
  return llvm::Error::success();
}

/// Columns by descending magnitude, the first of equals first, cut into sets; within a set in the
/// matrix's order.
static std::vector<int32_t> orderColumns(llvm::ArrayRef<float> values, int64_t cols,
                                         llvm::ArrayRef<int64_t> sets) {
  std::vector<float> magnitude(cols, 0.0f);
  for (size_t i = 0; i < values.size(); ++i) {
    float &largest = magnitude[i % cols];
    largest = std::max(largest, std::fabs(values[i]));
  }
  std::vector<int32_t> order(cols);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return magnitude[a] != magnitude[b] ? magnitude[a] > magnitude[b] : a < b;
  });
  auto begin = order.begin();
  for (int64_t size : sets) {
    std::sort(begin, begin + size);
    begin += size;
  }
  return order;
}

llvm::Expected<std::vector<int32_t>>
quern::format::orderOfColumns(llvm::ArrayRef<int32_t> leading, llvm::ArrayRef<int64_t> sets) {
  int64_t cols = std::accumulate(sets.begin(), sets.end(), int64_t(0));
  if (int64_t(leading.size()) != cols - sets.back())
    return llvm::createStringError("a split's sets before the last take " +
                                   llvm::Twine(cols - sets.back()) + " columns, " +
                                   llvm::Twine(uint64_t(leading.size())) + " are named");
  std::vector<int32_t> order(leading.begin(), leading.end());
  std::vector<bool> taken(cols);
  for (int32_t column : leading) {
    if (column < 0 || column >= cols || taken[column])
      return llvm::createStringError("column " + llvm::Twine(column) +
                                     " of a split is named twice or out of range");
    taken[column] = true;
  }
  for (int32_t column = 0; column < cols; ++column)
    if (!taken[column])
      order.push_back(column);
  return order;
}

static llvm::Error encodeSplit(const Spec &spec, llvm::ArrayRef<float> values, int64_t firstRow,
                               int64_t rows, int64_t cols, Components &out,
                               llvm::StringRef tensor, llvm::ArrayRef<int32_t> leading) {
  if (firstRow != 0)
    return llvm::createStringError("encode: '" + print(spec) + "' is encoded as a whole");
  auto sets = splitColumns(spec, cols);
  if (!sets)
    return llvm::createStringError("tensor '" + tensor + "': " + llvm::toString(sets.takeError()));
  allocate(spec, firstRow, rows, cols, out, *sets);
  if (leading.empty()) {
    out.permutation = orderColumns(values, cols, *sets);
  } else {
    auto order = orderOfColumns(leading, *sets);
    if (!order)
      return llvm::createStringError("tensor '" + tensor +
                                     "': " + llvm::toString(order.takeError()));
    out.permutation = std::move(*order);
  }
  std::vector<float> part;
  const int32_t *columns = out.permutation.data();
  for (size_t t = 0; t < spec.terms.size(); ++t) {
    int64_t count = (*sets)[t];
    part.resize(rows * count);
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t i = 0; i < count; ++i)
        part[row * count + i] = values[row * cols + columns[i]];
    if (llvm::Error error = encodeAny(spec.terms[t], part, out.terms[t], tensor))
      return error;
    columns += count;
  }
  return llvm::Error::success();
}

llvm::Error quern::format::checkEncodable(const Spec &spec) {
  if (!spec.isPlain() || spec.code.number.isFloat())
    return llvm::Error::success();
  std::string name = print(spec);
  return llvm::createStringError("'" + name + "' holds whole numbers alone: weights need a scale, as "
                                 "in '" + name + ", scale f32[1x32]'");
}

llvm::Error quern::format::encode(const Spec &spec, llvm::ArrayRef<float> values, int64_t rows,
                                  int64_t cols, Components &out, llvm::StringRef tensor,
                                  int64_t firstRow, llvm::ArrayRef<int32_t> leading) {
  if (llvm::Error error = validate(spec))
    return error;
  if (rows < 0 || cols < 0 || firstRow < 0)
    return llvm::createStringError("encode: a negative number of rows or columns");
  if (llvm::Expected<uint64_t> size = storedBytes(Spec::plain(Number()), {rows, cols}); !size)
    return size.takeError();
  if (values.size() != uint64_t(rows) * uint64_t(cols))
    return llvm::createStringError("encode: " + llvm::Twine(uint64_t(values.size())) +
                                   " values for " + llvm::Twine(rows) + "x" + llvm::Twine(cols));
  for (size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i]))
      return llvm::createStringError(
          "tensor '" + tensor + "' [" + llvm::Twine(firstRow + int64_t(i) / cols) + ", " +
          llvm::Twine(int64_t(i) % cols) + "]: " + (std::isnan(values[i]) ? "NaN" : "infinity") +
          " cannot be encoded");
  if (spec.kind == Spec::Kind::Split)
    return encodeSplit(spec, values, firstRow, rows, cols, out, tensor, leading);
  allocate(spec, firstRow, rows, cols, out);
  return encodeAny(spec, values, out, tensor);
}
