//===- Vector.h - The solver's inner loops ----------------------*- C++ -*-===//
//
// Compiled for several instruction sets, with the same result on all: sums are made in an order
// of their own whatever the width of a vector, and nothing is fused.
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

/// A product of matrices, added up: to[r][j] += factors[r][i] * from[i][j] for r < rows, i < count,
/// j < n, in the order of i. Strides are in elements; factors of zero take no time.
template <typename T> struct Product {
  T *to;
  int64_t toStride;
  const T *factors;
  int64_t factorStride;
  const T *from;
  int64_t fromStride;
  int64_t rows, count, n;
};
void addProduct(const Product<float> &p);
void addProduct(const Product<double> &p);

/// What codes may be, for searches: consecutive integers [low, high], or a few values in
/// ascending order (then `steps` of them).
struct UnitGrid {
  float low, high;
  const float *values = nullptr;
  int64_t steps = 0;
};
/// Sums over a tile whose values w are approached by s u + o, u the nearest of the grid.
struct FitSums {
  float u, uu, xu; ///< of weights times u, u^2, w u
  float error;     ///< of weights times (w - s u - o)^2
};
/// Lengths are multiples of fitLanes: fill up with weights of 0. `zero` is taken from a code before
/// the scale; null: 0. A scale of 0 makes u the code nearest to 0.
constexpr int64_t fitLanes = 16;
FitSums fitSums(const float *w, const float *weight, const float *zero, int64_t n, float s, float o,
                const UnitGrid &grid);

} // namespace quern::quantize

#endif // QUERN_LIB_QUANTIZE_SOLVER_VECTOR_H
