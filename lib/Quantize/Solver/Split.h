//===- Split.h - Two quantizers for one matrix ------------------*- C++ -*-===//
//
// Private to the folder.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_SOLVER_SPLIT_H
#define QUERN_LIB_QUANTIZE_SOLVER_SPLIT_H

#include "quern/Quantize/Solver.h"

namespace quern::quantize {

/// Replaces the terms of a column split that was rounded to nearest: the last set is solved, and
/// what error it leaves is fed into the others before they are rounded. Sets stay as they are.
llvm::Error solveSplit(const format::Spec &spec, llvm::ArrayRef<float> values, int64_t rows,
                       const Hessian &hessian, const SolveOptions &options, llvm::StringRef tensor,
                       format::Components &components);

} // namespace quern::quantize

#endif // QUERN_LIB_QUANTIZE_SOLVER_SPLIT_H
