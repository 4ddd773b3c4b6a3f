//===- Matrix.h - A whole matrix as Quern stores it -------------*- C++ -*-===//
//
// One rule for the bytes of a matrix that Quern writes itself: GGUF's blocks where a type of GGUF
// has the format and its blocks divide the rows, else the arrays of the canonical layout one after
// another; of a split those of its sets, and its columns (packWhole). No sums.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_FORMAT_MATRIX_H
#define QUERN_FORMAT_MATRIX_H

#include "quern/Format/FileType.h"

namespace quern::format {

/// What people call a format: GGUF's name of its type, else a known name, else its spelling.
std::string formatName(const Spec &spec);

/// The inverse, in any case where it is GGUF's; also any spelling. Fails for sums and splits, which
/// no solver rounds to and no single matrix is stored in.
llvm::Expected<Spec> parseBaseFormat(llvm::StringRef name);

/// The type in whose blocks rows of `cols` elements are stored; null: in arrays.
const FileType *blockType(const Spec &spec, int64_t cols);

llvm::Expected<uint64_t> matrixBytes(const Spec &spec, int64_t rows, int64_t cols);
llvm::Expected<std::vector<uint8_t>> packMatrix(const Spec &spec, const Components &components);
/// `bytes` are all those of the matrix; `out` has rows x cols values.
llvm::Error decodeMatrix(const Spec &spec, llvm::ArrayRef<uint8_t> bytes, int64_t rows,
                         int64_t cols, llvm::MutableArrayRef<float> out);

} // namespace quern::format

#endif // QUERN_FORMAT_MATRIX_H
