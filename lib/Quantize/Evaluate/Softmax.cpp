//===- Softmax.cpp - Sums over rows of predictions ------------------------===//
//
// See Softmax.h. Products and sums are not fused anywhere in this project.
//
//===----------------------------------------------------------------------===//
#include "Softmax.h"
#include <algorithm>
#include <cmath>
#include <cstring>

#if defined(__x86_64__)
#define QUERN_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define QUERN_CLONES
#endif
#define QUERN_INLINE static inline __attribute__((always_inline))

namespace quern::quantize {

/// Numbers that go through a loop together.
static constexpr int64_t lanes = 16;

/// exp of numbers that are not positive, but for rounding; within 2 units in the last place. What is
/// below -87 counts as -87, which is nothing beside the 1 that every row's maximum adds.
QUERN_INLINE void exponentials(const float *x, float *out) {
  int32_t bits[lanes];
  for (int64_t l = 0; l < lanes; ++l) {
    float t = x[l] < -87.0f ? -87.0f : x[l]; // what is no number stays so
    int32_t k = int32_t((t == t ? t : 0) * 1.44269504f - 0.5f);
    float n = float(k), r = (t - n * 0.693359375f) + n * 2.12194440e-4f;
    // Taylor's series to the 7th power: |r| <= ln(2) / 2.
    float sum = 1.98412698e-4f;
    sum = sum * r + 1.38888889e-3f;
    sum = sum * r + 8.33333333e-3f;
    sum = sum * r + 4.16666667e-2f;
    sum = sum * r + 1.66666667e-1f;
    sum = sum * r + 0.5f;
    sum = sum * r + 1.0f;
    out[l] = sum * r + 1.0f;
    bits[l] = (k + 127) << 23;
  }
  float scale[lanes];
  std::memcpy(scale, bits, sizeof(bits));
  for (int64_t l = 0; l < lanes; ++l)
    out[l] *= scale[l];
}

QUERN_INLINE double total(double *sums) {
  for (int64_t half = lanes / 2; half > 0; half /= 2)
    for (int64_t l = 0; l < half; ++l)
      sums[l] += sums[l + half];
  return sums[0];
}

QUERN_CLONES float maximum(const float *row, int64_t n) {
  float most[lanes];
  std::fill(most, most + lanes, -INFINITY);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (int64_t l = 0; l < lanes; ++l)
      most[l] = row[i + l] > most[l] ? row[i + l] : most[l];
  for (; i < n; ++i)
    most[0] = row[i] > most[0] ? row[i] : most[0];
  for (int64_t l = 1; l < lanes; ++l)
    most[0] = most[l] > most[0] ? most[l] : most[0];
  return most[0];
}

QUERN_CLONES double logSumExp(const float *row, float most, int64_t n) {
  double sums[lanes] = {};
  float x[lanes], e[lanes];
  for (int64_t i = 0; i < n; i += lanes) {
    int64_t count = std::min(lanes, n - i);
    if (count == lanes)
      for (int64_t l = 0; l < lanes; ++l)
        x[l] = row[i + l] - most;
    else
      for (int64_t l = 0; l < lanes; ++l)
        x[l] = l < count ? row[i + l] - most : -INFINITY;
    exponentials(x, e);
    for (int64_t l = 0; l < lanes; ++l)
      sums[l] += double(e[l]);
  }
  return double(most) + std::log(total(sums));
}

QUERN_CLONES double divergenceOf(const float *logA, const float *b, double totalB, int64_t n) {
  double sums[lanes] = {};
  float a[lanes], other[lanes], p[lanes];
  for (int64_t i = 0; i < n; i += lanes) {
    int64_t count = std::min(lanes, n - i);
    std::memcpy(a, logA + i, sizeof(float) * size_t(count));
    std::memcpy(other, b + i, sizeof(float) * size_t(count));
    exponentials(a, p);
    if (count == lanes)
      for (int64_t l = 0; l < lanes; ++l)
        sums[l] += double(p[l]) * (double(a[l]) - (double(other[l]) - totalB));
    else
      for (int64_t l = 0; l < count; ++l)
        sums[l] += double(p[l]) * (double(a[l]) - (double(other[l]) - totalB));
  }
  return total(sums);
}

} // namespace quern::quantize
