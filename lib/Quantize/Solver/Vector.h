//===- Vector.h - The solver's inner loops ----------------------*- C++ -*-===//
//
// Compiled for several instruction sets, with the same result on all: sums are made in eight
// lanes whatever the width of a vector, and nothing is fused.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_SOLVER_VECTOR_H
#define QUERN_LIB_QUANTIZE_SOLVER_VECTOR_H

#include <cstdint>

namespace quern::quantize {

/// to += factor * from.
void addScaled(float *to, const float *from, float factor, int64_t n);
/// Sum of a[i] * b[i].
float dot(const float *a, const float *b, int64_t n);

} // namespace quern::quantize

#endif // QUERN_LIB_QUANTIZE_SOLVER_VECTOR_H
