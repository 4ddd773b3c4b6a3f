//===- TensorTypes.cpp - The tensor types of safetensors ------------------===//
//
// One table, and sizes that cannot overflow.
//
//===----------------------------------------------------------------------===//
#include "quern/Import/TensorTypes.h"
#include "Common.h"

using namespace llvm;

namespace quern::import {

static constexpr ArrayType types[] = {
    {"F32", 4, "f32"},        {"F16", 2, "f16"},
    {"BF16", 2, "bf16"},      {"F8_E4M3", 1, "f8E4M3FN"},
    {"F8_E5M2", 1, "f8E5M2"}, {"F8_E8M0", 1, "f8E8M0FNU"},
    {"F64", 8, "f64"},        {"I8", 1, "i8"},
    {"U8", 1, "ui8"},         {"I16", 2, "i16"},
    {"U16", 2, "ui16"},       {"I32", 4, "i32"},
    {"U32", 4, "ui32"},       {"I64", 8, "i64"},
    {"U64", 8, ""},           {"BOOL", 1, ""},
};

ArrayRef<ArrayType> arrayTypes() { return types; }

const ArrayType *arrayType(StringRef name) {
  for (const ArrayType &type : types)
    if (type.name == name)
      return &type;
  return nullptr;
}

const ArrayType *arrayType(const format::Spec &spec) {
  for (const ArrayType &type : types)
    if (std::optional<format::Spec> own = specOf(type); own && *own == spec)
      return &type;
  return nullptr;
}

std::optional<format::Spec> specOf(const ArrayType &type) {
  // Parsed once: a checkpoint has thousands of tensors.
  static const auto specs = [] {
    std::vector<std::optional<format::Spec>> parsed;
    for (const ArrayType &type : types)
      parsed.push_back(type.spelling.empty()
                           ? std::nullopt
                           : std::optional(cantFail(format::parse(type.spelling))));
    return parsed;
  }();
  return specs[&type - types];
}

std::optional<uint64_t> storedBytes(uint64_t blockElements, uint64_t blockBytes,
                                    ArrayRef<int64_t> shape) {
  uint64_t blocks = 1;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] < 0)
      return std::nullopt;
    uint64_t extent = shape[i];
    if (i + 1 == shape.size()) {
      if (extent % blockElements != 0)
        return std::nullopt;
      extent /= blockElements;
    }
    if (!multiply(blocks, extent, blocks))
      return std::nullopt;
  }
  if (shape.empty() && blockElements != 1)
    return std::nullopt;
  // The number of elements must fit as well: consumers multiply shapes without looking again.
  uint64_t elements, bytes;
  if (!multiply(blocks, blockElements, elements) || !multiply(blocks, blockBytes, bytes))
    return std::nullopt;
  return bytes;
}

} // namespace quern::import
