//===- Components.h - A coded matrix, unpacked ------------------*- C++ -*-===//
//
// The canonical unpacked form of a coded matrix (or of some of its rows): every
// file layout unpacks into it and packs from it, kernels' panels are packed out
// of it, and `decode` gives it its meaning. One element of an array is one stored
// number in a whole number of bytes.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_FORMAT_COMPONENTS_H
#define QUERN_FORMAT_COMPONENTS_H

#include "quern/Format/Size.h"
#include "quern/Format/Spec.h"

namespace quern::format {

/// A dense row-major array of stored numbers, each in `elementBytes` bytes, little-endian:
/// signed integers sign-extended, everything else (unsigned, float patterns, indices)
/// zero-extended. So i4 codes are int8_t in [-8, 7], ui6 are uint8_t, f16 are uint16_t patterns.
struct Stream {
  unsigned elementBytes = 1; ///< 1, 2, 4 or 8: the least that holds the number
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<uint8_t> bytes; ///< rows x cols x elementBytes

  void resize(unsigned elementBytes, int64_t rows, int64_t cols);
  template <typename T> T *data() { return reinterpret_cast<T *>(bytes.data()); }
  template <typename T> const T *data() const { return reinterpret_cast<const T *>(bytes.data()); }
  /// Element (row, col) zero-extended (mask with the number's width to get its pattern).
  uint64_t get(int64_t row, int64_t col) const;
  void set(int64_t row, int64_t col, uint64_t raw);
  bool operator==(const Stream &) const = default;
};

/// Bytes of a Stream's element for numbers of `bits` bits.
unsigned elementBytesFor(unsigned bits);

/// Rows [firstRow, firstRow + rows) of a matrix with `cols` columns.
struct Components {
  int64_t firstRow = 0;
  int64_t rows = 0;
  int64_t cols = 0;

  // Base format. Array shapes follow Extents/LevelExtents; padding codes are zero.
  Stream codes;               ///< [rows][codesPerRow]
  std::vector<Stream> scale;  ///< per level, outermost first: [rows of tiles][tiles in a row]
  std::vector<Stream> offset; ///< a level whose tile has R > 1 rows starts with the tile that
  std::vector<Stream> zero;   ///< holds firstRow; a level that spans all rows has one row
  std::vector<float> table;   ///< a learned table's entries, decoded

  // Sum and Split: one per term. A Split's terms have their own column counts.
  std::vector<Components> terms;
  /// Split: column j of the terms laid side by side is column permutation[j] of the matrix.
  std::vector<int32_t> permutation;

  bool operator==(const Components &) const = default;
};

/// Sizes `out` for rows [firstRow, firstRow + rows) x cols and zeroes it. For a Split,
/// `splitCols` are the column sets' sizes.
void allocate(const Spec &spec, int64_t firstRow, int64_t rows, int64_t cols, Components &out,
              llvm::ArrayRef<int64_t> splitCols = {});

/// Checks that the arrays have the shapes that `spec` and the counts call for.
llvm::Error verify(const Spec &spec, const Components &components);

/// THE meaning of a format: writes components.rows x components.cols values, row-major, to
/// `out`, evaluated exactly as Spec.h says. Everything else in Quern agrees with this.
llvm::Error decode(const Spec &spec, const Components &components,
                   llvm::MutableArrayRef<float> out);

} // namespace quern::format

#endif // QUERN_FORMAT_COMPONENTS_H
