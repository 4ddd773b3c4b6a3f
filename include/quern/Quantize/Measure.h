//===- Measure.h - Times of kernels on this host ----------------*- C++ -*-===//
//
// Compiles the products of a model as `quern compile` does, one for each shape and format, and runs
// them with one token and weights out of memory. What `quern measure` does.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_QUANTIZE_MEASURE_H
#define QUERN_QUANTIZE_MEASURE_H

#include "quern/Quantize/Cost.h"
#include <functional>

namespace quern::quantize {

struct MeasureOptions {
  std::string model;
  std::vector<std::string> formats; ///< GGUF types; empty: those that `quern quantize` chooses from
  unsigned threads = 0;             ///< 0: one for each core
  double seconds = 0.05;            ///< for each kernel, about
  std::function<bool(llvm::StringRef phase, double fraction)> progress;
};

/// Formats that cannot store a shape are left out for it. `other` is what a step of the whole
/// program takes beyond its products; 0 if the program cannot be made.
llvm::Expected<KernelTimes> measureKernels(const MeasureOptions &options);

} // namespace quern::quantize

#endif // QUERN_QUANTIZE_MEASURE_H
