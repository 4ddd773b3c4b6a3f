//===- Encode.h - Rounding real matrices into a format ----------*- C++ -*-===//
//
// Round to nearest, derived from the Spec alone; for the formats that GGUF's own
// tools write (Q4_0 ... Q8_0, TQ1_0, TQ2_0, MXFP4, BF16, F16), byte for byte what
// they write. Better solvers build on the pieces here.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_FORMAT_ENCODE_H
#define QUERN_FORMAT_ENCODE_H

#include "quern/Format/Components.h"

namespace quern::format {

/// An error for formats that no weights should be rounded to: of integers without a scale, which would
/// make zeros of most. encode() itself takes them.
llvm::Error checkEncodable(const Spec &spec);

/// Encodes `rows` x `cols` values. `tensor` and `firstRow` serve messages: NaN, infinity and
/// values that a scale cannot reach are errors that name the tensor and the index. A level
/// whose tile has R > 1 rows needs firstRow and (but for the last slice) rows to be multiples of
/// R; a per-tensor level, a learned table (fitted by k-means) and a Split need the whole matrix. Of
/// a Split each set takes the columns of largest magnitude that earlier sets left (see
/// splitColumns); or `leading` lists those of all sets but the last, one set after the other.
llvm::Error encode(const Spec &spec, llvm::ArrayRef<float> values, int64_t rows, int64_t cols,
                   Components &out, llvm::StringRef tensor = "", int64_t firstRow = 0,
                   llvm::ArrayRef<int32_t> leading = {});

/// The order of a split's columns: `leading`, which must be as many as the sets but the last hold,
/// then the others as they lie in the matrix.
llvm::Expected<std::vector<int32_t>> orderOfColumns(llvm::ArrayRef<int32_t> leading,
                                                    llvm::ArrayRef<int64_t> sets);

} // namespace quern::format

#endif // QUERN_FORMAT_ENCODE_H
