//===- Gram.cpp - Sums over rows of activations ---------------------------===//
//
// See Gram.h.
//
//===----------------------------------------------------------------------===//
#include "Gram.h"
#include <algorithm>
#include <cmath>

#if defined(__x86_64__)
#define QUERN_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define QUERN_CLONES
#endif

namespace quern::quantize {

/// `height` times `width` sums in registers.
template <int64_t height, int64_t width>
static inline __attribute__((always_inline)) void
addTile(const float *a, const float *b, int64_t rows, int64_t stride, float *out, int64_t outStride) {
  float sums[height][width] = {};
  for (int64_t r = 0; r < rows; ++r, a += stride, b += stride)
    for (int64_t i = 0; i < height; ++i)
      for (int64_t j = 0; j < width; ++j)
        sums[i][j] += a[i] * b[j];
  for (int64_t i = 0; i < height; ++i)
    for (int64_t j = 0; j < width; ++j)
      out[i * outStride + j] = sums[i][j];
}

QUERN_CLONES void multiplyColumns(const float *x, int64_t rows, int64_t columns, int64_t begin,
                                  int64_t width, float *out) {
  constexpr int64_t height = 4, wide = 32;
  for (int64_t j = 0; j < width;) {
    bool whole = j + wide <= width;
    const float *b = x + begin + j;
    int64_t i = begin;
    float *to = out + j;
    for (; whole && i + height <= columns; i += height, to += height * width)
      addTile<height, wide>(x + i, b, rows, columns, to, width);
    for (; i < columns; ++i, to += width)
      if (whole)
        addTile<1, wide>(x + i, b, rows, columns, to, width);
      else
        addTile<1, 1>(x + i, b, rows, columns, to, width);
    j += whole ? wide : 1;
  }
}

QUERN_CLONES void addMoments(const Moments &to, const float *__restrict row, int64_t begin,
                             int64_t end, float bound) {
  // Few arrays a loop: more pointers than registers would keep it from becoming vector code.
  {
    float *__restrict minimum = to.minimum, *__restrict maximum = to.maximum,
          *__restrict absMax = to.absMax;
    uint64_t *__restrict outliers = to.outliers;
    for (int64_t k = begin; k < end; ++k) {
      float v = row[k], magnitude = std::fabs(v);
      minimum[k] = v < minimum[k] ? v : minimum[k];
      maximum[k] = maximum[k] < v ? v : maximum[k];
      absMax[k] = absMax[k] < magnitude ? magnitude : absMax[k];
      outliers[k] += magnitude > bound;
    }
  }
  double *__restrict sum = to.sum, *__restrict sumAbs = to.sumAbs,
         *__restrict sumSquare = to.sumSquare, *__restrict sumCube = to.sumCube,
         *__restrict sumFourth = to.sumFourth;
  for (int64_t k = begin; k < end; ++k) {
    double wide = double(row[k]), square = wide * wide;
    sum[k] += wide;
    sumAbs[k] += std::fabs(wide);
    sumSquare[k] += square;
    sumCube[k] += square * wide;
    sumFourth[k] += square * square;
  }
}

QUERN_CLONES double sumOfSquares(const float *__restrict row, int64_t columns) {
  constexpr int64_t lanes = 16;
  double sums[lanes] = {};
  int64_t k = 0;
  for (; k + lanes <= columns; k += lanes)
    for (int64_t l = 0; l < lanes; ++l)
      sums[l] += double(row[k + l]) * double(row[k + l]);
  for (int64_t l = 0; k < columns; ++k, ++l)
    sums[l] += double(row[k]) * double(row[k]);
  for (int64_t half = lanes / 2; half > 0; half /= 2)
    for (int64_t l = 0; l < half; ++l)
      sums[l] += sums[l + half];
  return sums[0];
}

} // namespace quern::quantize
