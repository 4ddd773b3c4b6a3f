//===- Rope.h - Rope scaling resolved into frequencies -----------*- C++ -*-===//
//
// Both containers describe scaling in words of their own; both descriptions come
// down to this struct, and this struct to a table.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_IMPORT_ROPE_H
#define QUERN_LIB_IMPORT_ROPE_H

#include "quern/Import/ModelConfig.h"
#include <optional>

namespace quern::import {

struct RopeScaling {
  std::string type = "default"; ///< `default`, `linear`, `llama3`, `yarn`, `longrope`, `dynamic`
  std::optional<double> factor;
  double lowFrequency = 1, highFrequency = 4; ///< llama3
  double betaFast = 32, betaSlow = 1;         ///< yarn
  bool truncate = true;                       ///< yarn: whole dimensions bound the ramp
  std::optional<double> attentionFactor, mscale, mscaleAllDims;
  int64_t originalContext = 0;
  std::vector<double> longFactors, shortFactors; ///< longrope
  std::vector<double> divisors;                  ///< GGUF's rope_freqs.weight
};

/// Computes frequencies and attention factor. `context` is the model's, from which longrope
/// without a factor of its own derives one. Errors do not name the file: the caller does.
llvm::Expected<RopeConfig> resolveRope(double theta, int64_t dims, const RopeScaling &scaling,
                                       int64_t context);

} // namespace quern::import

#endif
