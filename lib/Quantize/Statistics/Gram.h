//===- Gram.h - Sums over rows of activations -------------------*- C++ -*-===//
//
// The inner loops of H = X^T X and of moments, compiled for several instruction sets.
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

/// What is added up of each column; as in InputStatistics.
struct Moments {
  float *minimum, *maximum, *absMax;
  double *sum, *sumAbs, *sumSquare, *sumCube, *sumFourth;
  uint64_t *outliers;
};
/// Adds columns [begin, end) of a row; values above `bound` are outliers.
void addMoments(const Moments &to, const float *row, int64_t begin, int64_t end, float bound);

/// Of a row, in an order of its own.
double sumOfSquares(const float *row, int64_t columns);

} // namespace quern::quantize

#endif // QUERN_LIB_QUANTIZE_STATISTICS_GRAM_H
