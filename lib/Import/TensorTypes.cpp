//===- TensorTypes.cpp - The tensor types of GGUF and safetensors ---------===//
//
// Two tables, and the formats the types stand for.
//
//===----------------------------------------------------------------------===//
#include "quern/Import/TensorTypes.h"
#include "Common.h"
#include "quern/Format/Known.h"
#include "llvm/ADT/StringSwitch.h"

using namespace llvm;

namespace quern::import {

// Block sizes are part of the file format: a reader must know them even for types whose
// numbers it cannot interpret.
static constexpr TensorType gguf[] = {
    {"F32", 0, 1, 4},         {"F16", 1, 1, 2},         {"Q4_0", 2, 32, 18},
    {"Q4_1", 3, 32, 20},      {"Q5_0", 6, 32, 22},      {"Q5_1", 7, 32, 24},
    {"Q8_0", 8, 32, 34},      {"Q2_K", 10, 256, 84},    {"Q3_K", 11, 256, 110},
    {"Q4_K", 12, 256, 144},   {"Q5_K", 13, 256, 176},   {"Q6_K", 14, 256, 210},
    {"Q8_K", 15, 256, 292},   {"IQ2_XXS", 16, 256, 66}, {"IQ2_XS", 17, 256, 74},
    {"IQ3_XXS", 18, 256, 98}, {"IQ1_S", 19, 256, 50},   {"IQ4_NL", 20, 32, 18},
    {"IQ3_S", 21, 256, 110},  {"IQ2_S", 22, 256, 82},   {"IQ4_XS", 23, 256, 136},
    {"I8", 24, 1, 1},         {"I16", 25, 1, 2},        {"I32", 26, 1, 4},
    {"I64", 27, 1, 8},        {"F64", 28, 1, 8},        {"IQ1_M", 29, 256, 56},
    {"BF16", 30, 1, 2},       {"TQ1_0", 34, 256, 54},   {"TQ2_0", 35, 256, 66},
    {"MXFP4", 39, 32, 17},    {"NVFP4", 40, 64, 36},    {"Q1_0", 41, 128, 18},
};

static constexpr TensorType safetensors[] = {
    {"F32", 0, 1, 4},     {"F16", 0, 1, 2},     {"BF16", 0, 1, 2}, {"F8_E4M3", 0, 1, 1},
    {"F8_E5M2", 0, 1, 1}, {"F8_E8M0", 0, 1, 1}, {"F64", 0, 1, 8},  {"I8", 0, 1, 1},
    {"U8", 0, 1, 1},      {"I16", 0, 1, 2},     {"U16", 0, 1, 2},  {"I32", 0, 1, 4},
    {"U32", 0, 1, 4},     {"I64", 0, 1, 8},     {"U64", 0, 1, 8},  {"BOOL", 0, 1, 1},
};

ArrayRef<TensorType> ggufTypes() { return gguf; }
ArrayRef<TensorType> safetensorsTypes() { return safetensors; }

const TensorType *ggufType(uint32_t id) {
  for (const TensorType &type : gguf)
    if (type.id == id)
      return &type;
  return nullptr;
}

const TensorType *ggufType(StringRef name) {
  for (const TensorType &type : gguf)
    if (type.name == name)
      return &type;
  return nullptr;
}

const TensorType *safetensorsType(StringRef name) {
  for (const TensorType &type : safetensors)
    if (type.name == name)
      return &type;
  return nullptr;
}

std::optional<format::Spec> specOf(StringRef typeName) {
  // Where the file formats' word differs from the algebra's.
  StringRef name = StringSwitch<StringRef>(typeName)
                       .Case("F8_E4M3", "f8E4M3FN")
                       .Case("F8_E5M2", "f8E5M2")
                       .Case("F8_E8M0", "f8E8M0FNU")
                       .Case("I8", "i8")
                       .Case("I16", "i16")
                       .Case("I32", "i32")
                       .Case("U8", "ui8")
                       .Case("U16", "ui16")
                       .Case("U32", "ui32")
                       .Case("MXFP4", "gguf_mxfp4")
                       .Case("NVFP4", "gguf_nvfp4")
                       .Cases({"I64", "U64", "F64", "BOOL", "Q8_K"}, "")
                       .Default(typeName);
  if (name.empty())
    return std::nullopt;
  if (const format::Spec *spec = format::knownSpec(name))
    return *spec;
  Expected<format::Spec> spec = format::parse("format<" + name.str() + ">");
  if (spec)
    return *spec;
  consumeError(spec.takeError());
  return std::nullopt;
}

std::optional<uint64_t> storedBytes(const TensorType &type, ArrayRef<int64_t> shape) {
  uint64_t blocks = 1;
  for (size_t i = 0; i < shape.size(); ++i) {
    uint64_t extent = shape[i];
    if (shape[i] < 0)
      return std::nullopt;
    if (i + 1 == shape.size()) {
      if (extent % type.elements != 0)
        return std::nullopt;
      extent /= type.elements;
    }
    if (!multiply(blocks, extent, blocks))
      return std::nullopt;
  }
  if (shape.empty() && type.elements != 1)
    return std::nullopt;
  uint64_t bytes;
  // The number of elements must fit as well: consumers multiply shapes without looking again.
  if (uint64_t elements;
      !multiply(blocks, type.elements, elements) || !multiply(blocks, type.bytes, bytes))
    return std::nullopt;
  return bytes;
}

} // namespace quern::import
