//===- Rounding.h - What passes that round weights share ---------*- C++ -*-===//
//
// Private to lib/Quantize/Passes.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_PASSES_ROUNDING_H
#define QUERN_LIB_QUANTIZE_PASSES_ROUNDING_H

#include "quern/Dialect/Quern/IR/QuernOps.h"
#include "quern/Quantize/Sensitivity.h"
#include "llvm/ADT/StringMap.h"

namespace quern::quantize {

/// The float matrices, and stacks of those of experts, of a module that may be stored in another
/// format: those that products or lookups of rows read, but for what chooses experts. `left`: how
/// many other tensors of two or more dimensions there are.
llvm::SmallVector<WeightOp> findMatrices(mlir::ModuleOp module, int64_t *left = nullptr);

/// A matrix, or those of a stack, in a format.
struct Rounded {
  std::vector<uint8_t> bytes; ///< as format::packMatrix gives them, matrix after matrix
  std::vector<float> values;
  double error = 0; ///< tr(dW H dW^T), of an expert as often as tokens go to it
};

/// Solves one matrix after another; those that share an input share its factored Hessian.
class Rounder {
public:
  /// `statistics`: a file, or empty.
  static llvm::Expected<Rounder> create(mlir::ModuleOp module, llvm::StringRef statistics,
                                        llvm::StringRef solver, double damping);
  /// What enters the products with a matrix, or with each of a stack's; null where nothing is
  /// known.
  llvm::Expected<std::vector<Subject::Part>> partsOf(WeightOp weight) const;
  /// The weight in each of the formats.
  llvm::Expected<std::vector<Rounded>> round(WeightOp weight, llvm::ArrayRef<float> values,
                                             llvm::ArrayRef<format::Spec> specs);

private:
  llvm::Error findHessian(const InputStatistics *input, int64_t columns, llvm::StringRef name);

  Statistics known;
  llvm::StringMap<int64_t> chosen; ///< by stack: how many of its matrices a token meets
  Method method = Method::Descent;
  double share = 0;
  const InputStatistics *hessianInput = nullptr;
  std::optional<Hessian> hessian;
};

} // namespace quern::quantize

#endif // QUERN_LIB_QUANTIZE_PASSES_ROUNDING_H
