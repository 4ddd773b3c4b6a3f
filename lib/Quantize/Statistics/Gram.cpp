//===- Gram.cpp - Products of columns -------------------------------------===//
//
// See Gram.h.
//
//===----------------------------------------------------------------------===//
#include "Gram.h"
#include <algorithm>

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

} // namespace quern::quantize
