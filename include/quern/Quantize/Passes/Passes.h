//===- Passes.h - Sensitivity, allocation, solver as passes -----*- C++ -*-===//
//
// Declares and registers the passes that choose formats and round weights to them. What they hand
// on to each other are two attributes of `quern.weight`; docs/Passes.md describes the passes.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_QUANTIZE_PASSES_PASSES_H
#define QUERN_QUANTIZE_PASSES_PASSES_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include "quern/Quantize/Solver.h"

namespace quern {

/// Of a weight: what it might be stored as, an array of dictionaries: `format`, `bytes` (i64) and
/// `loss` (f64), what that is expected to cost.
inline constexpr llvm::StringLiteral kChoicesAttr = "quern.choices";
/// Of a weight: the format it is to have.
inline constexpr llvm::StringLiteral kChosenFormatAttr = "quern.chosen_format";

#define GEN_PASS_DECL
#include "quern/Quantize/Passes/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "quern/Quantize/Passes/Passes.h.inc"

} // namespace quern

#endif // QUERN_QUANTIZE_PASSES_PASSES_H
