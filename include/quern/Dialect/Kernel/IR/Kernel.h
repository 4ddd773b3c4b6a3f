//===- Kernel.h - The kernel-level dialect ----------------------*- C++ -*-===//
//
// Tile operations over buffers, and the schedule that calls them. See KernelDialect.td.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_DIALECT_KERNEL_IR_KERNEL_H
#define QUERN_DIALECT_KERNEL_IR_KERNEL_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "quern/Dialect/Kernel/IR/KernelDialect.h.inc"
#include "quern/Dialect/Kernel/IR/KernelEnums.h.inc"
#define GET_ATTRDEF_CLASSES
#include "quern/Dialect/Kernel/IR/KernelAttributes.h.inc"
#define GET_OP_CLASSES
#include "quern/Dialect/Kernel/IR/KernelOps.h.inc"

namespace quern::kernel {

/// Name of the argument attribute of kernel functions that says how a buffer is used.
inline constexpr llvm::StringLiteral accessAttrName = "quern_kernel.access";

/// Trailing index arguments of every kernel function: begin, end, tokens.
inline constexpr unsigned kernelIndexArguments = 3;

/// Positions whose keys share a block in the cache; one vector of keys has this many lanes.
inline constexpr int64_t keyLanes = 16;

/// Dimensions that share a scale in a q8_0 cache.
inline constexpr int64_t cacheGroup = 32;

} // namespace quern::kernel

#endif // QUERN_DIALECT_KERNEL_IR_KERNEL_H
