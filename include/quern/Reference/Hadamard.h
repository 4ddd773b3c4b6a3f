//===- Hadamard.h - Which Hadamard matrices there are -----------*- C++ -*-===//
//
// Symmetric ones of sizes f 2^k: Sylvester's and, for f = 12, 28, 36 and 60, Paley's second
// construction.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_REFERENCE_HADAMARD_H
#define QUERN_REFERENCE_HADAMARD_H

#include <cstdint>

namespace quern::reference {

/// The f of a block of f 2^k features, 1 or one of 12, 28, 36, 60; 0 where no matrix is known here.
constexpr int64_t hadamardFactor(int64_t block) {
  for (int64_t factor : {1, 12, 28, 36, 60})
    if (block > 0 && block % factor == 0 && (block / factor & (block / factor - 1)) == 0)
      return factor;
  return 0;
}

/// Entry (i, j), in {-1, 0, 1}, of the symmetric conference matrix C of size f / 2 = q + 1, q a
/// prime of the form 4n + 1: C C = q I. Rows and columns after the first hold the quadratic
/// character of i - j. The matrix of size f is [C + I, C - I; C - I, -C - I].
constexpr int conference(int64_t factor, int64_t i, int64_t j) {
  if (i == j)
    return 0;
  if (i == 0 || j == 0)
    return 1;
  int64_t q = factor / 2 - 1, difference = (i - j + q) % q;
  for (int64_t root = 1; root < q; ++root)
    if (root * root % q == difference)
      return 1;
  return -1;
}

} // namespace quern::reference

#endif // QUERN_REFERENCE_HADAMARD_H
