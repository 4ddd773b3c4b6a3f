//===- Gram.h - Products of columns -----------------------------*- C++ -*-===//
//
// The inner loop of H = X^T X, compiled for several instruction sets.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_STATISTICS_GRAM_H
#define QUERN_LIB_QUANTIZE_STATISTICS_GRAM_H

#include <cstdint>

namespace quern::quantize {

/// out[i][j] = sum over `rows` rows of x of x[begin + i] * x[begin + j], for i < columns - begin and
/// j < width; out has rows of `width` values. x: `rows` rows of `columns` values.
void multiplyColumns(const float *x, int64_t rows, int64_t columns, int64_t begin, int64_t width,
                     float *out);

} // namespace quern::quantize

#endif // QUERN_LIB_QUANTIZE_STATISTICS_GRAM_H
