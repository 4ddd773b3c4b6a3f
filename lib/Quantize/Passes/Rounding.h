//===- Rounding.h - What passes that round weights share ---------*- C++ -*-===//
//
// Private to lib/Quantize/Passes.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_PASSES_ROUNDING_H
#define QUERN_LIB_QUANTIZE_PASSES_ROUNDING_H

#include "quern/Dialect/Quern/IR/QuernOps.h"
#include "quern/Quantize/Solver.h"
#include "quern/Quantize/Statistics.h"

namespace quern::quantize {

/// The float matrices of a module that may be stored in another format: those that products or
/// lookups of rows read, but for what chooses experts. `left`: the other coded or stacked ones.
llvm::SmallVector<WeightOp> findMatrices(mlir::ModuleOp module, int64_t *left = nullptr);

/// Solves one matrix after another; those that share an input share its factored Hessian.
class Rounder {
public:
  /// `statistics`: a file, or empty.
  static llvm::Expected<Rounder> create(llvm::StringRef statistics, llvm::StringRef solver,
                                        double damping);
  /// What enters the products with a matrix; null if nothing is known.
  llvm::Expected<const InputStatistics *> inputOf(WeightOp weight) const;
  llvm::Expected<Solution> solve(WeightOp weight, llvm::ArrayRef<float> values,
                                 const format::Spec &spec);
  double damping() const { return share; }

private:
  Statistics known;
  Method method = Method::Descent;
  double share = 0;
  const InputStatistics *hessianInput = nullptr;
  std::optional<Hessian> hessian;
};

} // namespace quern::quantize

#endif // QUERN_LIB_QUANTIZE_PASSES_ROUNDING_H
