//===- TableFit.h - A learned table for codes that are chosen ---*- C++ -*-===//
//
// Private to lib/Quantize/Solver.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_SOLVER_TABLEFIT_H
#define QUERN_LIB_QUANTIZE_SOLVER_TABLEFIT_H

#include "Row.h"

namespace quern::quantize {

/// Whether the format has a table of single values that is the tensor's own.
bool isLearnedScalar(const format::Spec &spec);

/// The entries that suit the codes and levels of all rows best, rounded to what the table stores;
/// the same for any number of threads.
std::vector<float> fitTable(const format::Spec &spec, llvm::ArrayRef<float> values,
                            const CodeGrid &grid, const Hessian &hessian,
                            const format::Components &components, unsigned threads);

} // namespace quern::quantize

#endif // QUERN_LIB_QUANTIZE_SOLVER_TABLEFIT_H
