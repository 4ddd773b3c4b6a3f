//===- Vector.cpp - The solver's inner loops ------------------------------===//
//
// See Vector.h.
//
//===----------------------------------------------------------------------===//
#include "Vector.h"

#if defined(__x86_64__)
#define QUERN_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define QUERN_CLONES
#endif

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

} // namespace quern::quantize
