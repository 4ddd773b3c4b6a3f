//===- Softmax.h - Sums over rows of predictions ----------------*- C++ -*-===//
//
// What evaluation does for every word of the vocabulary at every position; compiled for several
// instruction sets, with the same result on all.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_EVALUATE_SOFTMAX_H
#define QUERN_LIB_QUANTIZE_EVALUATE_SOFTMAX_H

#include <cstdint>

namespace quern::quantize {

float maximum(const float *row, int64_t n);
/// log(sum(exp(row))), `most` being its maximum.
double logSumExp(const float *row, float most, int64_t n);
/// KL divergence of predictions from `logA`, log-probabilities; `totalB`: logSumExp of `b`.
double divergenceOf(const float *logA, const float *b, double totalB, int64_t n);

} // namespace quern::quantize

#endif // QUERN_LIB_QUANTIZE_EVALUATE_SOFTMAX_H
