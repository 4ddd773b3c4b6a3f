//===- QuernAttributes.h - Formats, layouts and the rest --------*- C++ -*-===//
//
// Attributes of the model-level dialect, and what a tensor type says about storage.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_DIALECT_QUERN_IR_QUERNATTRIBUTES_H
#define QUERN_DIALECT_QUERN_IR_QUERNATTRIBUTES_H

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/TensorEncoding.h"
#include "quern/Dialect/Quern/IR/QuernDialect.h"
#include "quern/Format/Spec.h"

namespace quern::format {
/// Equal specs hash alike; lets a Spec be the key of an attribute.
llvm::hash_code hash_value(const Spec &spec);
} // namespace quern::format

#include "quern/Dialect/Quern/IR/QuernEnums.h.inc"

#define GET_ATTRDEF_CLASSES
#include "quern/Dialect/Quern/IR/QuernAttributes.h.inc"

namespace quern {

/// Whether `type` is a tensor of static shape that can lie in a file: f32
/// elements, a format (or nothing, plain f32) as its encoding.
bool isStoredTensor(mlir::Type type);

/// The format of a stored tensor: that of its encoding, plain f32 without one.
format::Spec getFormat(mlir::RankedTensorType type);

/// `tensor<shape x f32, format>`.
mlir::RankedTensorType getStoredType(mlir::MLIRContext *context, llvm::ArrayRef<int64_t> shape,
                                     const format::Spec &spec);

} // namespace quern

#endif // QUERN_DIALECT_QUERN_IR_QUERNATTRIBUTES_H
