//===- Passes.h - From the model level to LLVM ------------------*- C++ -*-===//
//
// The passes of Passes.td.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_CONVERSION_PASSES_H
#define QUERN_CONVERSION_PASSES_H

#include "quern/Dialect/Kernel/IR/Kernel.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace quern {

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "quern/Conversion/Passes.h.inc"

} // namespace quern

#endif // QUERN_CONVERSION_PASSES_H
