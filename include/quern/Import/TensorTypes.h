//===- TensorTypes.h - The tensor types of GGUF and safetensors -*- C++ -*-===//
//
// Which numbers and names the two file formats give their tensor types, how many
// bytes they take, and the format::Spec each stands for.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_IMPORT_TENSORTYPES_H
#define QUERN_IMPORT_TENSORTYPES_H

#include "quern/Format/Spec.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include <optional>

namespace quern::import {

struct TensorType {
  llvm::StringRef name;  ///< as the file format spells it
  uint32_t id = 0;       ///< GGUF's number; unused for safetensors
  uint32_t elements = 1; ///< per block; blocks lie along the last dimension
  uint32_t bytes = 0;    ///< per block
};

/// All types of GGUF tensors that are still in use, by number.
llvm::ArrayRef<TensorType> ggufTypes();
const TensorType *ggufType(uint32_t id);
const TensorType *ggufType(llvm::StringRef name);

/// All types of safetensors (`F32`, `BF16`, `F8_E4M3`, ...).
llvm::ArrayRef<TensorType> safetensorsTypes();
const TensorType *safetensorsType(llvm::StringRef name);

/// How numbers of this type are stored; nothing for types that are never weights (I64, Q8_K).
std::optional<format::Spec> specOf(llvm::StringRef typeName);

/// The bytes a tensor of `shape` takes, or nothing if the last dimension is not a whole number of
/// blocks or the product overflows 63 bits.
std::optional<uint64_t> storedBytes(const TensorType &type, llvm::ArrayRef<int64_t> shape);

} // namespace quern::import

#endif // QUERN_IMPORT_TENSORTYPES_H
