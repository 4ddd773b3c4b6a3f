//===- QuernDialect.h - The model-level dialect -----------------*- C++ -*-===//
//
// Declares the `quern` dialect. Attributes, types and ops have headers of their own.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_DIALECT_QUERN_IR_QUERNDIALECT_H
#define QUERN_DIALECT_QUERN_IR_QUERNDIALECT_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Dialect.h"

#include "quern/Dialect/Quern/IR/QuernDialect.h.inc"

#endif // QUERN_DIALECT_QUERN_IR_QUERNDIALECT_H
