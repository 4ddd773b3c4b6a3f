//===- LevelEncoder.h - Storing a chain of levels ---------------*- C++ -*-===//
//
// Scales (or offsets, or zeros) are real numbers per innermost tile; a chain of
// levels stores their product, each level relative to what the outer ones hold.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_FORMAT_LEVELENCODER_H
#define QUERN_LIB_FORMAT_LEVELENCODER_H

#include "quern/Format/Components.h"

namespace quern::format {

/// The innermost tiles of a chain over the rows and columns of a slice. An empty chain is one
/// tile that covers everything.
struct TileGrid {
  TileGrid(const std::vector<Level> &levels, const Components &components);

  int64_t rowOf(int64_t row) const {
    return tileRows == 0 ? 0 : (firstRow + row) / tileRows - firstRow / tileRows;
  }
  int64_t indexOf(int64_t row, int64_t col) const {
    return rowOf(row) * cols + (tileCols == 0 ? 0 : col / tileCols);
  }
  int64_t size() const { return rows * cols; }

  int64_t firstRow;
  int64_t tileRows, tileCols; ///< 0: everything
  int64_t rows, cols;         ///< tiles, those of padding excluded
};

/// Whether the chain's product can be negative.
bool canBeNegative(const std::vector<Level> &levels);

/// Largest value a level can hold.
float maxValue(const Level &level);

/// A chain of one level that holds any scale closely: f32, f16 or bf16.
bool isSingleFloat(const std::vector<Level> &levels);

/// Fills `streams` so that the products come close to `values` (one per tile of `grid`), and
/// replaces `values` by what the products are. False if a level overflowed its type.
bool encodeLevels(const std::vector<Level> &levels, const TileGrid &grid,
                  std::vector<Stream> &streams, std::vector<float> &values);

} // namespace quern::format

#endif // QUERN_LIB_FORMAT_LEVELENCODER_H
