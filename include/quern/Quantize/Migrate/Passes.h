//===- Passes.h - Outlier migration -----------------------------*- C++ -*-===//
//
// Declares and registers the passes that move outliers out of the way of rounding while the
// model computes the same. docs/Passes.md describes them, docs/Transforms.md how they fit.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_QUANTIZE_MIGRATE_PASSES_H
#define QUERN_QUANTIZE_MIGRATE_PASSES_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include "quern/Quantize/Migrate/ScaleSites.h"

namespace quern {

#define GEN_PASS_DECL
#include "quern/Quantize/Migrate/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "quern/Quantize/Migrate/Passes.h.inc"

} // namespace quern

#endif // QUERN_QUANTIZE_MIGRATE_PASSES_H
