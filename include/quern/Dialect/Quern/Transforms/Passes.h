//===- Passes.h - Passes over model-level IR --------------------*- C++ -*-===//
//
// Declares and registers the passes of the model level. docs/Passes.md describes them.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_DIALECT_QUERN_TRANSFORMS_PASSES_H
#define QUERN_DIALECT_QUERN_TRANSFORMS_PASSES_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include "quern/Dialect/Quern/IR/QuernAttributes.h"

namespace quern {

#define GEN_PASS_DECL
#include "quern/Dialect/Quern/Transforms/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "quern/Dialect/Quern/Transforms/Passes.h.inc"

} // namespace quern

#endif // QUERN_DIALECT_QUERN_TRANSFORMS_PASSES_H
