//===- QuernOps.h - The ops of a decoder ------------------------*- C++ -*-===//
//
// Declares the model-level ops. Include this to build or match them.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_DIALECT_QUERN_IR_QUERNOPS_H
#define QUERN_DIALECT_QUERN_IR_QUERNOPS_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "quern/Dialect/Quern/IR/QuernTypes.h"

#include "quern/Dialect/Quern/IR/QuernInterfaces.h.inc"

#define GET_OP_CLASSES
#include "quern/Dialect/Quern/IR/QuernOps.h.inc"

namespace quern {

/// On a quern.weight: the columns of all sets but the last of the column split that it is, or is to
/// be encoded as (an array of i32). Without it, encoding takes those of largest weights.
inline constexpr llvm::StringLiteral kSplitColumnsAttr = "quern.split_columns";

} // namespace quern

#endif // QUERN_DIALECT_QUERN_IR_QUERNOPS_H
