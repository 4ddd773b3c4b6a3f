//===- Writers.cpp - The two file formats ---------------------------------===//
//
// GGUF version 3 and safetensors, header first, then tensors one by one.
//
//===----------------------------------------------------------------------===//
#include "Plan.h"
#include "quern/Support/Json.h"
#include "llvm/Support/EndianStream.h"

using namespace llvm;
using quern::import::MetadataType;

namespace quern::exporter {
namespace {

constexpr uint64_t alignment = 32;

uint64_t aligned(uint64_t offset) { return (offset + alignment - 1) / alignment * alignment; }

class Bytes {
public:
  explicit Bytes(raw_ostream &os) : os(os) {}
  template <typename T> void put(T value) { support::endian::write(os, value, endianness::little); }
  void string(StringRef text) {
    put(uint64_t(text.size()));
    os << text;
  }
  Error scalar(StringRef key, MetadataType type, const json::Value &value);

private:
  template <typename T> Error integer(StringRef key, const json::Value &value) {
    if constexpr (std::is_signed_v<T>) {
      std::optional<int64_t> n = integerOf(value);
      if (!n || *n != int64_t(T(*n)))
        return createStringError("metadata key '" + key + "' does not fit its type");
      put(T(*n));
    } else {
      std::optional<uint64_t> n = value.getAsUINT64();
      if (!n || *n != uint64_t(T(*n)))
        return createStringError("metadata key '" + key + "' does not fit its type");
      put(T(*n));
    }
    return Error::success();
  }
  raw_ostream &os;
};

Error Bytes::scalar(StringRef key, MetadataType type, const json::Value &value) {
  switch (type) {
  case MetadataType::UInt8:
    return integer<uint8_t>(key, value);
  case MetadataType::Int8:
    return integer<int8_t>(key, value);
  case MetadataType::UInt16:
    return integer<uint16_t>(key, value);
  case MetadataType::Int16:
    return integer<int16_t>(key, value);
  case MetadataType::UInt32:
    return integer<uint32_t>(key, value);
  case MetadataType::Int32:
    return integer<int32_t>(key, value);
  case MetadataType::UInt64:
    return integer<uint64_t>(key, value);
  case MetadataType::Int64:
    return integer<int64_t>(key, value);
  case MetadataType::Float32:
  case MetadataType::Float64:
    if (std::optional<double> number = value.getAsNumber()) {
      if (type == MetadataType::Float32)
        put(float(*number));
      else
        put(*number);
      return Error::success();
    }
    break;
  case MetadataType::Bool:
    if (std::optional<bool> flag = value.getAsBoolean()) {
      put(uint8_t(*flag));
      return Error::success();
    }
    break;
  case MetadataType::String:
    if (std::optional<StringRef> text = value.getAsString()) {
      string(*text);
      return Error::success();
    }
    break;
  case MetadataType::Array:
    break;
  }
  return createStringError("metadata key '" + key + "' does not fit its type");
}

Error writeTensors(const import::ModelFile &model, const Plan &plan, const ConvertOptions &options,
                   uint64_t align, raw_ostream &os) {
  uint64_t written = 0;
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    const OutTensor &tensor = plan.tensors[i];
    if (options.progress && !options.progress(i, plan.tensors.size(), tensor.name))
      return createStringError("cancelled");
    os.write_zeros((align - written % align) % align);
    written = (written + align - 1) / align * align;
    uint64_t before = os.tell();
    if (Error e = writeTensor(model, tensor, os))
      return e;
    if (os.tell() - before != tensor.size)
      return createStringError("tensor '" + tensor.name + "': wrote " + Twine(os.tell() - before) +
                               " bytes of " + Twine(tensor.size));
    written += tensor.size;
  }
  return Error::success();
}

} // namespace

Error writeGGUFHeader(const Plan &plan, raw_ostream &os, uint64_t &size) {
  uint64_t start = os.tell();
  Bytes out(os);
  os << "GGUF";
  out.put(uint32_t(3));
  out.put(uint64_t(plan.tensors.size()));
  out.put(uint64_t(plan.keys.size()));
  for (const KeyValue &pair : plan.keys) {
    out.string(pair.key);
    out.put(uint32_t(pair.type));
    if (pair.type != MetadataType::Array) {
      if (Error e = out.scalar(pair.key, pair.type, pair.value))
        return e;
      continue;
    }
    const json::Array *array = pair.value.getAsArray();
    if (!array)
      return createStringError("metadata key '" + pair.key + "' does not fit its type");
    out.put(uint32_t(pair.element));
    out.put(uint64_t(array->size()));
    for (const json::Value &item : *array)
      if (Error e = out.scalar(pair.key, pair.element, item))
        return e;
  }
  uint64_t offset = 0;
  for (const OutTensor &tensor : plan.tensors) {
    out.string(tensor.name);
    out.put(uint32_t(tensor.shape.size()));
    for (int64_t extent : reverse(tensor.shape))
      out.put(uint64_t(extent));
    out.put(uint32_t(tensor.type.gguf->id));
    offset = aligned(offset);
    out.put(offset);
    offset += tensor.size;
  }
  os.write_zeros(aligned(os.tell() - start) - (os.tell() - start));
  size = os.tell() - start + offset;
  return Error::success();
}

Error writeGGUF(const import::ModelFile &model, const Plan &plan, const ConvertOptions &options,
                raw_ostream &os) {
  uint64_t size;
  if (Error e = writeGGUFHeader(plan, os, size))
    return e;
  return writeTensors(model, plan, options, alignment, os);
}

Error writeSafetensors(const import::ModelFile &model, const Plan &plan,
                       const ConvertOptions &options, raw_ostream &os) {
  // Written by hand: objects of llvm::json have no order, and the same input must give the same
  // bytes.
  std::string header;
  raw_string_ostream text(header);
  text << "{\"__metadata__\":{\"format\":\"pt\"}";
  uint64_t offset = 0;
  for (const OutTensor &tensor : plan.tensors) {
    text << "," << json::Value(tensor.name) << ":{\"dtype\":\"" << tensor.type.name
         << "\",\"shape\":[";
    for (size_t i = 0; i < tensor.shape.size(); ++i)
      text << (i ? "," : "") << tensor.shape[i];
    text << "],\"data_offsets\":[" << offset << "," << offset + tensor.size << "]}";
    offset += tensor.size;
  }
  text << "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  Bytes out(os);
  out.put(uint64_t(header.size()));
  os << header;
  return writeTensors(model, plan, options, 1, os);
}

} // namespace quern::exporter
