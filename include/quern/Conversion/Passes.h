//===- Passes.h - From the model level to LLVM ------------------*- C++ -*-===//
//
// The passes of Passes.td.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_CONVERSION_PASSES_H
#define QUERN_CONVERSION_PASSES_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace quern {

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "quern/Conversion/Passes.h.inc"

} // namespace quern

#endif // QUERN_CONVERSION_PASSES_H
