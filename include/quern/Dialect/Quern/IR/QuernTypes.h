//===- QuernTypes.h - The key-value cache -----------------------*- C++ -*-===//
//
// Types of the model-level dialect.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_DIALECT_QUERN_IR_QUERNTYPES_H
#define QUERN_DIALECT_QUERN_IR_QUERNTYPES_H

#include "quern/Dialect/Quern/IR/QuernAttributes.h"

#define GET_TYPEDEF_CLASSES
#include "quern/Dialect/Quern/IR/QuernTypes.h.inc"

#endif // QUERN_DIALECT_QUERN_IR_QUERNTYPES_H
