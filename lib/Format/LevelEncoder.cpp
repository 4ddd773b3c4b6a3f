//===- LevelEncoder.cpp - Storing a chain of levels -----------------------===//
//
// From the outside in: a level is as large as the largest product under it calls
// for when the inner levels are at their largest.
//
//===----------------------------------------------------------------------===//
#include "LevelEncoder.h"
#include "quern/Format/Number.h"
#include <cmath>

using namespace quern::format;

TileGrid::TileGrid(const std::vector<Level> &levels, const Components &components)
    : firstRow(components.firstRow), tileRows(levels.empty() ? 0 : levels.back().tile.rows),
      tileCols(levels.empty() ? 0 : levels.back().tile.cols) {
  rows = components.rows == 0 ? 0 : rowOf(components.rows - 1) + 1;
  cols = components.cols == 0 ? 0 : tileCols == 0 ? 1 : (components.cols - 1) / tileCols + 1;
}

bool quern::format::canBeNegative(const std::vector<Level> &levels) {
  return !levels.empty() && minValue(levels.back().number) < 0;
}

float quern::format::maxValue(const Level &level) {
  return (maxValue(level.number) + level.addend) * level.multiplier;
}

bool quern::format::isSingleFloat(const std::vector<Level> &levels) {
  return levels.size() == 1 && levels[0].number.isFloat() && levels[0].number.bits >= 16;
}

bool quern::format::encodeLevels(const std::vector<Level> &levels, const TileGrid &grid,
                                 std::vector<Stream> &streams, std::vector<float> &values) {
  std::vector<float> products(values.size(), 1.0f);
  for (size_t l = 0; l < levels.size(); ++l) {
    const Level &level = levels[l];
    bool innermost = l + 1 == levels.size();
    float innerMax = 1;
    for (size_t i = l + 1; i < levels.size(); ++i)
      innerMax *= maxValue(levels[i]);

    // What this level should hold: of its tiles' largest demand if there are levels inside.
    Stream &stream = streams[l];
    std::vector<float> wanted(stream.rows * stream.cols, 0.0f);
    auto cellOf = [&](int64_t r, int64_t c) {
      // Row and column of the matrix where tile (r, c) of the innermost grid starts.
      int64_t row = grid.tileRows == 0 ? 0 : (grid.firstRow / grid.tileRows + r) * grid.tileRows;
      row = std::max(row, grid.firstRow);
      int64_t col = grid.tileCols == 0 ? 0 : c * grid.tileCols;
      int64_t levelRow =
          level.tile.rows == 0 ? 0 : row / level.tile.rows - grid.firstRow / level.tile.rows;
      return levelRow * stream.cols + (level.tile.cols == 0 ? 0 : col / level.tile.cols);
    };
    for (int64_t r = 0; r < grid.rows; ++r)
      for (int64_t c = 0; c < grid.cols; ++c) {
        int64_t tile = r * grid.cols + c;
        float demand = products[tile] == 0 ? 0 : values[tile] / products[tile];
        float &want = wanted[cellOf(r, c)];
        want = innermost ? demand : std::max(want, std::fabs(demand) / innerMax);
      }

    std::vector<float> held(wanted.size());
    for (size_t i = 0; i < wanted.size(); ++i) {
      uint64_t raw = encodeNumber(level.number, wanted[i] / level.multiplier - level.addend);
      stream.set(
          i / stream.cols, i % stream.cols,
          level.number.kind == Number::Kind::Signed
              ? uint64_t(int64_t(raw << (64 - level.number.bits)) >> (64 - level.number.bits))
              : raw);
      float value = decodeNumber(level.number, raw);
      if (level.addend != 0)
        value = value + level.addend;
      if (level.multiplier != 1)
        value = value * level.multiplier;
      held[i] = value;
      if (!std::isfinite(value))
        return false;
    }
    for (int64_t r = 0; r < grid.rows; ++r)
      for (int64_t c = 0; c < grid.cols; ++c) {
        float value = held[cellOf(r, c)];
        float &product = products[r * grid.cols + c];
        product = l == 0 ? value : product * value;
      }
  }
  values = std::move(products);
  return true;
}
