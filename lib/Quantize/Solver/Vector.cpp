//===- Vector.cpp - The solver's inner loops ------------------------------===//
//
// See Vector.h.
//
//===----------------------------------------------------------------------===//
#include "Vector.h"
#include <algorithm>
#include <cstring>
#include <type_traits>

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

/// The factors of a row that are not zero, and their places.
template <typename T> struct Factors {
  static constexpr int64_t most = 64;
  int64_t count = 0;
  T values[most];
  int32_t places[most];
};

/// `width` columns of one row, kept in registers while those of `from` go by.
template <typename T, int64_t width>
QUERN_INLINE void addPanel(T *to, const Factors<T> &factors, const T *from, int64_t stride) {
  T sums[width];
  for (int64_t j = 0; j < width; ++j)
    sums[j] = to[j];
  for (int64_t i = 0; i < factors.count; ++i) {
    T value = factors.values[i];
    const T *row = from + factors.places[i] * stride;
    for (int64_t j = 0; j < width; ++j)
      sums[j] += value * row[j];
  }
  for (int64_t j = 0; j < width; ++j)
    to[j] = sums[j];
}

/// Takes as many rows of `from` as the first cache holds `wide` columns of, and their factors,
/// which are listed once for all columns: where the zeros are cannot be foreseen. Where many rows
/// use them, those columns are gathered first: far apart, they would fall on the same places of the
/// cache.
template <typename T> QUERN_INLINE void addAll(const Product<T> &p) {
  constexpr int64_t wide = 256 / sizeof(T), narrow = 64 / sizeof(T), rowsAtOnce = 16;
  Factors<T> factors[rowsAtOnce];
  T gathered[Factors<T>::most * wide];
  for (int64_t begin = 0; begin < p.rows; begin += rowsAtOnce)
    for (int64_t first = 0; first < p.count; first += Factors<T>::most) {
      int64_t rows = std::min(rowsAtOnce, p.rows - begin);
      int64_t end = std::min(p.count, first + Factors<T>::most), all = 0;
      for (int64_t r = 0; r < rows; ++r) {
        const T *values = p.factors + (begin + r) * p.factorStride;
        Factors<T> &list = factors[r];
        list.count = 0;
        for (int64_t i = first; i < end; ++i) {
          list.values[list.count] = values[i];
          list.places[list.count] = int32_t(i - first);
          list.count += values[i] != 0;
        }
        all += list.count;
      }
      if (all == 0)
        continue;
      bool gathers = all > 3 * (end - first);
      auto addColumns = [&](auto size, int64_t column) __attribute__((always_inline)) {
        constexpr int64_t width = decltype(size)::value;
        const T *from = p.from + first * p.fromStride + column;
        int64_t stride = p.fromStride;
        if (gathers) {
          for (int64_t i = 0; i < end - first; ++i)
            std::memcpy(gathered + i * width, from + i * stride, sizeof(T) * size_t(width));
          from = gathered;
          stride = width;
        }
        for (int64_t r = 0; r < rows; ++r)
          if (factors[r].count)
            addPanel<T, width>(p.to + (begin + r) * p.toStride + column, factors[r], from, stride);
      };
      int64_t column = 0;
      for (; column + wide <= p.n; column += wide)
        addColumns(std::integral_constant<int64_t, wide>(), column);
      for (; column + narrow <= p.n; column += narrow)
        addColumns(std::integral_constant<int64_t, narrow>(), column);
      for (; column < p.n; ++column)
        addColumns(std::integral_constant<int64_t, 1>(), column);
    }
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
