//===- Vector.cpp - The solver's inner loops ------------------------------===//
//
// See Vector.h.
//
//===----------------------------------------------------------------------===//
#include "Vector.h"
#include <algorithm>

#if defined(__x86_64__)
#define QUERN_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define QUERN_CLONES
#endif
#define QUERN_INLINE static inline __attribute__((always_inline))

namespace quern::quantize {

QUERN_CLONES void addScaled(float *__restrict to, const float *__restrict from, float factor,
                            int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    to[i] += factor * from[i];
}

QUERN_CLONES float dot(const float *__restrict a, const float *__restrict b, int64_t n) {
  float lanes[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int64_t l = 0; l < 8; ++l)
      lanes[l] += a[i + l] * b[i + l];
  for (int64_t l = 0; i < n; ++i, ++l)
    lanes[l] += a[i] * b[i];
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
         ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

/// `width` columns of all rows, kept in registers while rows of `from` go by. Those columns of
/// `depth` rows of `from` stay in the first cache.
template <typename T, int64_t width>
QUERN_INLINE void addPanel(const Product<T> &p, int64_t column) {
  constexpr int64_t depth = 64;
  for (int64_t first = 0; first < p.count; first += depth) {
    int64_t end = std::min(p.count, first + depth);
    for (int64_t r = 0; r < p.rows; ++r) {
      T *to = p.to + r * p.toStride + column;
      const T *factors = p.factors + r * p.factorStride;
      T sums[width];
      for (int64_t j = 0; j < width; ++j)
        sums[j] = to[j];
      for (int64_t i = first; i < end; ++i) {
        T factor = factors[i];
        if (factor == 0)
          continue;
        const T *from = p.from + i * p.fromStride + column;
        for (int64_t j = 0; j < width; ++j)
          sums[j] += factor * from[j];
      }
      for (int64_t j = 0; j < width; ++j)
        to[j] = sums[j];
    }
  }
}

template <typename T> QUERN_INLINE void addAll(const Product<T> &p) {
  constexpr int64_t wide = 256 / sizeof(T), narrow = 64 / sizeof(T);
  int64_t column = 0;
  for (; column + wide <= p.n; column += wide)
    addPanel<T, wide>(p, column);
  for (; column + narrow <= p.n; column += narrow)
    addPanel<T, narrow>(p, column);
  for (; column < p.n; ++column)
    addPanel<T, 1>(p, column);
}

QUERN_CLONES void addProduct(const Product<float> &p) { addAll(p); }
QUERN_CLONES void addProduct(const Product<double> &p) { addAll(p); }

QUERN_CLONES FitSums fitSums(const float *__restrict w, const float *__restrict weight,
                             const float *__restrict zero, int64_t n, float s, float o,
                             const UnitGrid &grid) {
  float sumU[fitLanes] = {}, sumUU[fitLanes] = {}, sumXU[fitLanes] = {}, sumError[fitLanes] = {};
  float inverse = s == 0 ? 0 : 1 / s;
  for (int64_t begin = 0; begin < n; begin += fitLanes) {
    float u[fitLanes], zeros[fitLanes] = {};
    if (zero)
      for (int64_t l = 0; l < fitLanes; ++l)
        zeros[l] = zero[begin + l];
    for (int64_t l = 0; l < fitLanes; ++l)
      u[l] = (w[begin + l] - o) * inverse + zeros[l];
    if (!grid.values) {
      for (int64_t l = 0; l < fitLanes; ++l) {
        float clamped = !(u[l] > grid.low) ? grid.low : u[l] > grid.high ? grid.high : u[l];
        u[l] = float(int32_t(clamped - grid.low + 0.5f)) + grid.low;
      }
    } else {
      float best[fitLanes];
      for (int64_t l = 0; l < fitLanes; ++l)
        best[l] = grid.values[0];
      for (int64_t i = 1; i < grid.steps; ++i) {
        float value = grid.values[i], middle = 0.5f * (grid.values[i - 1] + value);
        for (int64_t l = 0; l < fitLanes; ++l)
          best[l] = u[l] > middle ? value : best[l];
      }
      for (int64_t l = 0; l < fitLanes; ++l)
        u[l] = best[l];
    }
    for (int64_t l = 0; l < fitLanes; ++l) {
      float unit = u[l] - zeros[l], a = weight[begin + l], x = w[begin + l];
      float rest = x - s * unit - o;
      sumU[l] += a * unit;
      sumUU[l] += a * unit * unit;
      sumXU[l] += a * x * unit;
      sumError[l] += a * rest * rest;
    }
  }
  auto total = [](float *lanes) {
    for (int64_t half = fitLanes / 2; half > 0; half /= 2)
      for (int64_t l = 0; l < half; ++l)
        lanes[l] += lanes[l + half];
    return lanes[0];
  };
  return {total(sumU), total(sumUU), total(sumXU), total(sumError)};
}

} // namespace quern::quantize
