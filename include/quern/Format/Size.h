//===- Size.h - Stored sizes and extents of a format's components -*- C++ -*-===//
//
// From a Spec and a matrix shape: how many codes and parameters there are, and
// the exact number of bytes they take.
//
// The storage tile is the largest finite column extent among the levels (the
// whole row when there is none). Columns are padded with zeros to whole storage
// tiles; within one row and tile each component is an LSB-first bit stream that
// starts on a byte. Rows are not padded.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_FORMAT_SIZE_H
#define QUERN_FORMAT_SIZE_H

#include "quern/Format/Spec.h"

namespace quern::format {

/// How a Base format divides a matrix of `rows` x `cols`.
struct Extents {
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t tileCols = 0;     ///< columns of a storage tile
  int64_t tilesPerRow = 0;  ///< storage tiles in a row
  int64_t paddedCols = 0;   ///< tilesPerRow x tileCols
  int64_t codesPerTile = 0; ///< indices in one row of a storage tile
  int64_t codesPerRow = 0;  ///< indices in a row, padding included
  uint64_t codeBytesPerTile = 0;
};

/// How many parameters a level has, and how they lie.
struct LevelExtents {
  int64_t rows = 0;    ///< rows of parameters
  int64_t cols = 0;    ///< parameters in a row, those of padding included
  int64_t perTile = 0; ///< parameters in one row of a storage tile (cols if it spans the row)
  uint64_t bytesPerTile = 0;
  uint64_t bytesPerRow = 0;
};

/// `spec` must be a valid Base format; rows, cols >= 0.
Extents extents(const Spec &spec, int64_t rows, int64_t cols);
LevelExtents levelExtents(const Spec &spec, const Level &level, int64_t rows, int64_t cols);

/// Columns of a storage tile; 0 when it is the whole row.
int64_t storageTile(const Spec &spec);

/// Exact bytes of a tensor of `shape` (outermost first; tiles lie on the last two dimensions,
/// a 1-D tensor is one row), learned tables included. For a Split, `splitCols` gives each
/// column set's size, and the permutation (i32 per column) is included. Errors: a negative
/// dimension, a size beyond 2^63, column sets that do not add up.
llvm::Expected<uint64_t> storedBytes(const Spec &spec, llvm::ArrayRef<int64_t> shape,
                                     llvm::ArrayRef<int64_t> splitCols = {});

/// Column sets are whole groups: activations are rounded in groups of so many columns.
inline constexpr int64_t columnGroup = 32;

/// The sizes of a split's column sets: as the format says, and where it says nothing, each set but
/// the last takes a sixteenth of the columns, in whole groups, the last one the rest. An
/// error if nothing is left for it.
llvm::Expected<std::vector<int64_t>> splitColumns(const Spec &spec, int64_t cols);

/// Bits per weight in the limit of a large matrix (per-row, per-tensor levels and tables count as
/// 0); of a split, with the sets that splitColumns chooses, and where the format counts columns, of
/// its last set.
double bitsPerWeight(const Spec &spec);

} // namespace quern::format

#endif // QUERN_FORMAT_SIZE_H
