//===- KernelOps.td - The kernel level: operations --------------------------===//
//
// Entry file for TableGen: schedule operations and tile operations.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_DIALECT_KERNEL_IR_KERNELOPS
#define QUERN_DIALECT_KERNEL_IR_KERNELOPS

include "quern/Dialect/Kernel/IR/ScheduleOps.td"
include "quern/Dialect/Kernel/IR/TileProducts.td"

#endif
