//===- Grid.cpp - The numbers a row can take ------------------------------===//
//
// See Grid.h.
//
//===----------------------------------------------------------------------===//
#include "Grid.h"
#include "quern/Format/Number.h"
#include <algorithm>
#include <cmath>
#include <numeric>

using namespace quern;
using namespace quern::quantize;
using format::Code;
using format::Level;

CodeGrid::CodeGrid(const Code &code, llvm::ArrayRef<float> table) {
  size_t count = size_t(1) << code.bitsPerIndex();
  if (code.kind == Code::Kind::Ternary)
    count = 3; // the fourth pattern is no value of the format
  if (code.kind == Code::Kind::Table && !code.table.isLearned())
    table = code.table.values();
  std::vector<float> decoded(count);
  for (uint64_t raw = 0; raw < count; ++raw)
    if (code.kind == Code::Kind::Table)
      decoded[raw] = table[raw];
    else
      decoded[raw] = format::decodeCode(code, raw);
  std::vector<uint64_t> sorted(count);
  std::iota(sorted.begin(), sorted.end(), 0);
  llvm::erase_if(sorted, [&](uint64_t raw) { return !std::isfinite(decoded[raw]); });
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](uint64_t a, uint64_t b) { return decoded[a] < decoded[b]; });
  indices.assign(count, 0);
  bool consecutive = true;
  for (uint64_t raw : sorted) {
    if (values.empty() || decoded[raw] != values.back()) {
      consecutive &= values.empty() || decoded[raw] == values.back() + 1;
      values.push_back(decoded[raw]);
      raws.push_back(raw);
    }
    indices[raw] = uint32_t(values.size() - 1);
  }
  first = consecutive ? 0 : -1;
  fillBins();
}

void CodeGrid::fillBins() {
  float span = high() - low();
  perUnit = span > 0 ? float(binCount) / span : 0;
  if (!std::isfinite(perUnit))
    perUnit = 0;
  uint32_t index = 0;
  for (int bin = 0; bin < binCount; ++bin) {
    float start = low() + span * (float(bin) / float(binCount));
    while (index + 1 < values.size() && start > middle(index))
      ++index;
    // A step back, in case a number of the bin before rounds into this one.
    bins[size_t(bin)] = perUnit > 0 && index > 0 ? index - 1 : index;
  }
}

uint32_t CodeGrid::nearestOf(float unit) const {
  // Numbers below, and what is no number, are in the first bin.
  float place = (unit - low()) * perUnit;
  uint32_t index = bins[place > 0 ? size_t(std::min(place, float(binCount - 1))) : 0];
  while (index + 1 < values.size() && unit > middle(index))
    ++index;
  return index;
}

LevelRow::LevelRow(const std::vector<Level> &levels, int64_t columns) : levels(&levels) {
  for (const Level &level : levels) {
    int64_t width = level.tile.cols == 0 ? std::max<int64_t>(columns, 1) : level.tile.cols;
    tiles.push_back(width);
    values.emplace_back(size_t((columns + width - 1) / width));
    raws.emplace_back(values.back().size());
  }
}

bool LevelRow::allAdjustable() const {
  for (size_t l = 0; l < count(); ++l)
    if (!adjustable(l))
      return false;
  return true;
}

bool LevelRow::isInnerSigned() const {
  const Level &inner = levels->back();
  return (format::minValue(inner.number) + inner.addend) * inner.multiplier < 0;
}

float LevelRow::outside(size_t l, int64_t tile) const {
  float product = 1;
  int64_t column = tile * tiles[l];
  for (size_t i = 0; i < l; ++i)
    product = i == 0 ? values[i][size_t(column / tiles[i])]
                     : product * values[i][size_t(column / tiles[i])];
  return product;
}

float LevelRow::product(int64_t tile) const {
  float product = 1;
  int64_t column = tile * tiles.back();
  for (size_t i = 0; i < count(); ++i) {
    float value = values[i][size_t(column / tiles[i])];
    product = i == 0 ? value : product * value;
  }
  return product;
}

/// What decoding reads a stored level number as.
static float levelValue(const Level &level, uint64_t raw) {
  float value = format::decodeNumber(level.number, raw);
  if (level.addend != 0)
    value = value + level.addend;
  if (level.multiplier != 1)
    value = value * level.multiplier;
  return value;
}

bool LevelRow::snap(size_t l, float target, uint64_t &raw, float &value) const {
  const Level &level = (*levels)[l];
  if (!std::isfinite(target))
    return false;
  raw = format::encodeNumber(level.number, target / level.multiplier - level.addend);
  value = levelValue(level, raw);
  return std::isfinite(value);
}

void LevelRow::load(const std::vector<format::Stream> &streams, int64_t row, int64_t firstRow) {
  for (size_t l = 0; l < count(); ++l) {
    int64_t tileRows = level(l).tile.rows;
    int64_t r = tileRows == 0 ? 0 : (firstRow + row) / tileRows - firstRow / tileRows;
    for (int64_t t = 0; t < tileCount(l); ++t) {
      raws[l][size_t(t)] = streams[l].get(r, t);
      values[l][size_t(t)] = levelValue(level(l), raws[l][size_t(t)]);
    }
  }
}

void LevelRow::store(std::vector<format::Stream> &streams, int64_t row) const {
  for (size_t l = 0; l < count(); ++l) {
    if (!adjustable(l))
      continue;
    const format::Number &number = level(l).number;
    for (int64_t t = 0; t < tileCount(l); ++t) {
      uint64_t raw = raws[l][size_t(t)];
      if (number.kind == format::Number::Kind::Signed && number.bits < 64)
        raw = uint64_t(int64_t(raw << (64 - number.bits)) >> (64 - number.bits));
      streams[l].set(row, t, raw);
    }
  }
}
