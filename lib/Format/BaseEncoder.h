//===- BaseEncoder.h - Rounding values into codes and levels ----*- C++ -*-===//
//
// A Base format whose table, if it has one, is known. BaseEncoder.cpp fills levels and codes;
// how large an offset or a scale had best be is in ScaleChoice.cpp.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_FORMAT_BASEENCODER_H
#define QUERN_LIB_FORMAT_BASEENCODER_H

#include "CodeRounder.h"
#include "LevelEncoder.h"
#include "quern/Format/Components.h"

namespace quern::format {

class BaseEncoder {
public:
  BaseEncoder(const Spec &spec, llvm::ArrayRef<float> values, Components &out,
              llvm::StringRef tensor)
      : spec(spec), values(values), out(out), tensor(tensor), rounder(spec.code),
        scaleGrid(spec.scale, out), offsetGrid(spec.offset, out), zeroGrid(spec.zero, out) {}

  llvm::Error run() {
    if (llvm::Error error = encodeOffsets())
      return error;
    if (llvm::Error error = encodeZeros())
      return error;
    if (llvm::Error error = encodeScales())
      return error;
    return encodeCodes();
  }

private:
  float zeroAt(int64_t i) const { return elementZeros.empty() ? 0 : elementZeros[i]; }

  /// Calls visit(tile, first, count) for every stretch of elements of a row within one tile.
  template <typename Visit> void forEachStretch(const TileGrid &grid, const Visit &visit) const {
    int64_t width = grid.tileCols == 0 ? out.cols : grid.tileCols;
    for (int64_t row = 0; row < out.rows; ++row)
      for (int64_t col = 0; col < out.cols; col += width)
        visit(grid.indexOf(row, col), row * out.cols + col, std::min(width, out.cols - col));
  }

  llvm::Error overflow(llvm::StringRef what) const {
    return llvm::createStringError("tensor '" + tensor + "': " + what + " does not fit '" +
                                   print(spec) + "'");
  }

  llvm::Error encodeOffsets();
  llvm::Error encodeZeros();
  llvm::Error encodeScales();
  llvm::Error encodeCodes();
  llvm::Error encodePlain();
  float scaleOf(int64_t tile) const { return spec.scale.empty() ? 1 : scales[tile]; }
  float chooseScale(llvm::ArrayRef<float> rest, llvm::ArrayRef<float> zero) const;
  float searchOffset(llvm::ArrayRef<float> values, float least, float most) const;
  float largestScale(llvm::ArrayRef<float> zero) const;
  bool followsTernaryTools() const;
  float searchScale(llvm::ArrayRef<float> rest, llvm::ArrayRef<float> zero, float start) const;

  const Spec &spec;
  llvm::ArrayRef<float> values;
  Components &out;
  llvm::StringRef tensor;
  CodeRounder rounder;
  TileGrid scaleGrid, offsetGrid, zeroGrid;
  std::vector<float> scales;       ///< per tile, as used by the codes
  llvm::ArrayRef<float> rest;      ///< values less their offsets: what the codes have to express
  std::vector<float> restStorage;  ///< of `rest`, if there is an offset
  std::vector<float> elementZeros; ///< the zero of each element; empty if there is none
};

/// Fills `out`, which `allocate` has sized. Values are finite; errors name `tensor`.
llvm::Error encodeBase(const Spec &spec, llvm::ArrayRef<float> values, Components &out,
                       llvm::StringRef tensor);

} // namespace quern::format

#endif // QUERN_LIB_FORMAT_BASEENCODER_H
