//===- Grid.h - The numbers a row can take ----------------------*- C++ -*-===//
//
// One row of a matrix in a scalar format: which values its codes and levels may have, what
// they are, and what they decode to, bit for bit as format::decode has it.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_SOLVER_GRID_H
#define QUERN_LIB_QUANTIZE_SOLVER_GRID_H

#include "Vector.h"
#include "quern/Format/Components.h"
#include <array>

namespace quern::quantize {

/// The values of a scalar code.
class CodeGrid {
public:
  /// `table`: the entries of a learned one.
  explicit CodeGrid(const format::Code &code, llvm::ArrayRef<float> table = {});

  /// Index of the value nearest to `unit` (the lower of equals).
  uint32_t nearest(float unit) const {
    if (first >= 0) { // consecutive integers
      float clamped = std::min(std::max(unit, low()), high());
      return uint32_t(int32_t(clamped - low() + 0.5f));
    }
    return nearestOf(unit);
  }
  float value(uint32_t index) const { return values[index]; }
  uint64_t raw(uint32_t index) const { return raws[index]; }
  uint32_t indexOf(uint64_t raw) const { return indices[raw]; }
  size_t size() const { return values.size(); }
  float low() const { return values.front(); }
  float high() const { return values.back(); }
  /// The same for searches over many values.
  UnitGrid units() const {
    if (first >= 0)
      return {low(), high()};
    return {low(), high(), values.data(), int64_t(values.size())};
  }

private:
  uint32_t nearestOf(float unit) const;
  void fillBins();
  /// Numbers above it are nearer to the value after `index`.
  float middle(uint32_t index) const { return 0.5f * (values[index] + values[index + 1]); }
  std::vector<float> values; ///< ascending
  std::vector<uint64_t> raws;
  std::vector<uint32_t> indices; ///< by raw code
  int first = -1;                ///< not negative: consecutive integers
  /// For numbers in each of these equal parts of [low, high]: an index not above theirs.
  static constexpr int binCount = 256;
  std::array<uint32_t, binCount> bins;
  float perUnit = 0; ///< bins
};

/// A chain of levels (scales, offsets or zeros) in one row.
class LevelRow {
public:
  LevelRow(const std::vector<format::Level> &levels, int64_t columns);

  bool empty() const { return levels->empty(); }
  size_t count() const { return levels->size(); }
  const format::Level &level(size_t l) const { return (*levels)[l]; }
  /// Whether numbers of this level are this row's own.
  bool adjustable(size_t l) const { return level(l).tile.rows == 1; }
  bool allAdjustable() const;
  /// Whether products of neighbouring innermost tiles may differ in sign.
  bool isInnerSigned() const;
  int64_t tileColumns(size_t l) const { return tiles[l]; }
  int64_t tileCount(size_t l) const { return int64_t(values[l].size()); }
  /// Tile of the innermost level that holds `column`.
  int64_t tileOf(int64_t column) const { return column / tiles.back(); }
  float value(size_t l, int64_t tile) const { return values[l][size_t(tile)]; }
  /// Product of all levels outside level `l` over tile `tile` of it.
  float outside(size_t l, int64_t tile) const;
  /// Product of all levels at an innermost tile, in the order in which decoding multiplies.
  float product(int64_t tile) const;

  /// The number of level `l` nearest to `target` as (pattern, value); false if there is none.
  bool snap(size_t l, float target, uint64_t &raw, float &value) const;
  void set(size_t l, int64_t tile, uint64_t raw, float value) {
    raws[l][size_t(tile)] = raw;
    values[l][size_t(tile)] = value;
  }
  uint64_t raw(size_t l, int64_t tile) const { return raws[l][size_t(tile)]; }

  void load(const std::vector<format::Stream> &streams, int64_t row, int64_t firstRow);
  /// Stores what is this row's own.
  void store(std::vector<format::Stream> &streams, int64_t row) const;

private:
  const std::vector<format::Level> *levels; ///< the spec's
  std::vector<int64_t> tiles;               ///< columns of each level's tile
  std::vector<std::vector<float>> values;
  std::vector<std::vector<uint64_t>> raws;
};

} // namespace quern::quantize

#endif // QUERN_LIB_QUANTIZE_SOLVER_GRID_H
