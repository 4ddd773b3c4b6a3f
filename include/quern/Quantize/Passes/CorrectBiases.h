//===- CorrectBiases.h - The mean error of rounding, taken back --*- C++ -*-===//
//
// y' = x W'ᵀ + b' with b' = b + E[x] (W - W')ᵀ has the mean of y = x Wᵀ + b. (Nagel et al., "Data-Free
// Quantization through Weight Equalization and Bias Correction", 2019, section 4.2.)
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_QUANTIZE_PASSES_CORRECTBIASES_H
#define QUERN_QUANTIZE_PASSES_CORRECTBIASES_H

#include "quern/Quantize/Migrate/ScaleSites.h"
#include "quern/Quantize/Migrate/WeightStore.h"
#include "quern/Quantize/Statistics.h"

namespace quern::quantize {

/// Corrects the biases of the products that read rows of `weight`, whose values were `values` and
/// are `rounded`, both row-major; one without a bias gets one. How many were corrected: a bias that
/// others share stays, and a remark says so. `input` is what enters them, with sums.
llvm::Expected<int64_t> correctBiases(WeightOp weight, const InputStatistics &input,
                                      llvm::ArrayRef<float> values, llvm::ArrayRef<float> rounded,
                                      const migrate::WeightReaders &readers,
                                      migrate::WeightStore &store);

} // namespace quern::quantize

#endif // QUERN_QUANTIZE_PASSES_CORRECTBIASES_H
