//===- TensorTypes.h - The tensor types of safetensors ----------*- C++ -*-===//
//
// Names, sizes and formats. GGUF's types are format::FileType.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_IMPORT_TENSORTYPES_H
#define QUERN_IMPORT_TENSORTYPES_H

#include "quern/Format/Spec.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include <optional>

namespace quern::import {

struct ArrayType {
  llvm::StringRef name;     ///< as safetensors spells it: `F8_E4M3`
  uint32_t bytes = 0;       ///< of an element
  llvm::StringRef spelling; ///< of the format; empty for what is never a weight (BOOL, U64)
};

llvm::ArrayRef<ArrayType> arrayTypes();
const ArrayType *arrayType(llvm::StringRef name);
/// The type that stores `spec`, if any.
const ArrayType *arrayType(const format::Spec &spec);

/// How numbers of this type are stored; nothing if it has no format.
std::optional<format::Spec> specOf(const ArrayType &type);

/// The bytes a tensor of `shape` takes, in blocks along the last dimension; nothing if that is not
/// a whole number of blocks, or if the elements or bytes overflow 63 bits.
std::optional<uint64_t> storedBytes(uint64_t blockElements, uint64_t blockBytes,
                                    llvm::ArrayRef<int64_t> shape);

} // namespace quern::import

#endif // QUERN_IMPORT_TENSORTYPES_H
