//===- GGUF.cpp - Reads the header of a GGUF file -------------------------===//
//
// Versions 2 and 3, little-endian. Nothing in the file is trusted: every count,
// length and offset is checked against the bytes that are there before it is used.
//
//===----------------------------------------------------------------------===//
#include "Common.h"
#include "quern/Format/FileType.h"
#include "quern/Import/Parsers.h"
#include "quern/Import/TensorTypes.h"
#include "llvm/ADT/StringSet.h"

using namespace llvm;

namespace quern::import {
namespace {

// Limits no real file comes near; they bound memory when a file lies about its counts, since one
// byte of the file may become a JSON value of 40.
constexpr uint64_t maxKeyLength = 65535; // the specification's
constexpr uint64_t maxNameLength = 255;
constexpr uint64_t maxArrayElements = uint64_t(1) << 23; // of all arrays together
constexpr unsigned maxRank = 4;
constexpr uint64_t defaultAlignment = 32;

class Parser {
public:
  Parser(StringRef bytes, uint64_t fileSize, StringRef path, unsigned file, ModelFile &model)
      : cursor(bytes), fileSize(fileSize), path(path), file(file), model(model) {}

  Error run() {
    if (Error e = header())
      return e;
    if (Error e = metadata())
      return e;
    if (Error e = tensors())
      return e;
    return ranges();
  }

private:
  Error error(const Twine &message) { return fileError(path, "GGUF: " + message); }
  Error truncated(const Twine &what) {
    return error("the file ends at byte " + Twine(fileSize) + " inside " + what);
  }

  Error header();
  Error metadata();
  Error tensors();
  Error ranges();
  Error readString(StringRef &value, uint64_t limit, const Twine &what);
  Error readScalar(MetadataType type, const Twine &what, json::Value &value);
  Error readArray(const Twine &what, MetadataType &element, json::Value &value);

  Cursor cursor;
  uint64_t fileSize;
  StringRef path;
  unsigned file;
  ModelFile &model;
  uint64_t tensorCount = 0, keyCount = 0, alignment = defaultAlignment, arrayElements = 0;
  size_t firstTensor = 0;
};

Error Parser::header() {
  StringRef magic;
  if (!cursor.read(magic, 4))
    return truncated("the magic 'GGUF'");
  if (magic != "GGUF")
    return error("expected the magic 'GGUF' at byte 0");
  uint32_t version;
  if (!cursor.read(version))
    return truncated("the version");
  if (version != 0 && (version & 0xFFFF) == 0)
    return error("the file is big-endian; only little-endian files are supported");
  if (version != 2 && version != 3)
    return error("version " + Twine(version) + " is not supported; expected 2 or 3");
  if (!cursor.read(tensorCount) || !cursor.read(keyCount))
    return truncated("the counts");
  // A key takes at least 13 bytes (length, type, one byte of value), a tensor at least 24.
  if (keyCount > cursor.remaining() / 13)
    return error("the header declares " + Twine(keyCount) + " metadata keys, more than its " +
                 Twine(fileSize) + " bytes can hold");
  if (tensorCount > cursor.remaining() / 24)
    return error("the header declares " + Twine(tensorCount) + " tensors, more than its " +
                 Twine(fileSize) + " bytes can hold");
  return Error::success();
}

Error Parser::readString(StringRef &value, uint64_t limit, const Twine &what) {
  uint64_t length;
  if (!cursor.read(length))
    return truncated(what);
  if (length > limit)
    return error(what + " has a length of " + Twine(length) + "; at most " + Twine(limit) +
                 " is allowed");
  if (!cursor.read(value, length))
    return error(what + " has a length of " + Twine(length) + ", but only " +
                 Twine(cursor.remaining()) + " bytes are left");
  size_t invalid = 0;
  if (!json::isUTF8(value, &invalid))
    return error(what + " is not valid UTF-8 at byte " + Twine(invalid));
  return Error::success();
}

Error Parser::readScalar(MetadataType type, const Twine &what, json::Value &value) {
  auto number = [&](auto sample) -> Error {
    decltype(sample) stored;
    if (!cursor.read(stored))
      return truncated(what);
    if constexpr (std::is_floating_point_v<decltype(sample)>)
      value = double(stored);
    else if constexpr (std::is_signed_v<decltype(sample)>)
      value = int64_t(stored);
    else
      value = uint64_t(stored);
    return Error::success();
  };
  switch (type) {
  case MetadataType::UInt8:
    return number(uint8_t());
  case MetadataType::Int8:
    return number(int8_t());
  case MetadataType::UInt16:
    return number(uint16_t());
  case MetadataType::Int16:
    return number(int16_t());
  case MetadataType::UInt32:
    return number(uint32_t());
  case MetadataType::Int32:
    return number(int32_t());
  case MetadataType::UInt64:
    return number(uint64_t());
  case MetadataType::Int64:
    return number(int64_t());
  case MetadataType::Float32:
    return number(float());
  case MetadataType::Float64:
    return number(double());
  case MetadataType::Bool: {
    uint8_t stored;
    if (!cursor.read(stored))
      return truncated(what);
    if (stored > 1)
      return error(what + " is a bool of value " + Twine(unsigned(stored)) + "; expected 0 or 1");
    value = stored == 1;
    return Error::success();
  }
  case MetadataType::String: {
    StringRef text;
    if (Error e = readString(text, UINT64_MAX, what))
      return e;
    value = text.str();
    return Error::success();
  }
  case MetadataType::Array:
    break;
  }
  return error(what + " is an array inside an array, which is not supported");
}

Error Parser::readArray(const Twine &what, MetadataType &element, json::Value &value) {
  uint32_t type;
  uint64_t count;
  if (!cursor.read(type) || !cursor.read(count))
    return truncated(what);
  if (type > unsigned(MetadataType::Float64))
    return error(what + " is an array of unknown type " + Twine(type));
  element = MetadataType(type);
  if (element == MetadataType::Array)
    return error(what + " is an array of arrays, which is not supported");
  uint64_t smallest = 1;
  switch (element) {
  case MetadataType::UInt16:
  case MetadataType::Int16:
    smallest = 2;
    break;
  case MetadataType::UInt32:
  case MetadataType::Int32:
  case MetadataType::Float32:
    smallest = 4;
    break;
  case MetadataType::UInt64:
  case MetadataType::Int64:
  case MetadataType::Float64:
  case MetadataType::String:
    smallest = 8;
    break;
  default:
    break;
  }
  if (count > cursor.remaining() / smallest)
    return error(what + " is an array of " + Twine(count) + " elements, but only " +
                 Twine(cursor.remaining()) + " bytes are left");
  arrayElements += count;
  if (arrayElements > maxArrayElements)
    return error(what + " brings the metadata's arrays to " + Twine(arrayElements) +
                 " elements; at most " + Twine(maxArrayElements) + " are supported");
  json::Array array;
  array.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    json::Value item = nullptr;
    if (Error e = readScalar(element, "element " + Twine(i) + " of " + what, item))
      return e;
    array.push_back(std::move(item));
  }
  value = std::move(array);
  return Error::success();
}

Error Parser::metadata() {
  for (uint64_t i = 0; i < keyCount; ++i) {
    StringRef key;
    if (Error e = readString(key, maxKeyLength, "metadata key number " + Twine(i)))
      return e;
    if (key.empty())
      return error("metadata key number " + Twine(i) + " is empty");
    std::string what = ("metadata key '" + key + "'").str();
    uint32_t type;
    if (!cursor.read(type))
      return truncated(what);
    if (type > unsigned(MetadataType::Float64))
      return error(what + " has the unknown type " + Twine(type));
    MetadataKey info{key.str(), MetadataType(type)};
    json::Value value = nullptr;
    if (info.type == MetadataType::Array) {
      if (Error e = readArray(what, info.element, value))
        return e;
    } else if (Error e = readScalar(info.type, what, value)) {
      return e;
    }
    if (key == "general.alignment") {
      if (info.type != MetadataType::UInt32)
        return error(what + " must be a uint32");
      alignment = *value.getAsUINT64();
      if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment % 8 != 0)
        return error(what + " is " + Twine(alignment) + "; expected a power of two of at least 8");
    }
    if (!model.metadata.try_emplace(info.key, std::move(value)).second)
      return error(what + " occurs twice");
    model.metadataKeys.push_back(std::move(info));
  }
  return Error::success();
}

Error Parser::tensors() {
  firstTensor = model.tensors.size();
  StringSet<> names;
  for (const TensorInfo &tensor : model.tensors)
    names.insert(tensor.name);
  for (uint64_t i = 0; i < tensorCount; ++i) {
    StringRef name;
    if (Error e = readString(name, maxNameLength, "the name of tensor number " + Twine(i)))
      return e;
    if (name.empty())
      return error("the name of tensor number " + Twine(i) + " is empty");
    std::string what = ("tensor '" + name + "'").str();
    if (!names.insert(name).second)
      return error(what + " occurs twice");
    TensorInfo tensor;
    tensor.name = name.str();
    tensor.file = file;
    uint32_t rank, typeId;
    if (!cursor.read(rank))
      return truncated(what);
    if (rank == 0 || rank > maxRank)
      return error(what + " has " + Twine(rank) + " dimensions; expected 1 to " + Twine(maxRank));
    for (unsigned d = 0; d < rank; ++d) {
      uint64_t extent;
      if (!cursor.read(extent))
        return truncated(what);
      if (extent == 0 || extent > uint64_t(INT64_MAX))
        return error("dimension " + Twine(d) + " of " + what + " is " + Twine(extent));
      // The file lists the fastest dimension first.
      tensor.shape.insert(tensor.shape.begin(), int64_t(extent));
    }
    if (!cursor.read(typeId) || !cursor.read(tensor.offset))
      return truncated(what);
    const format::FileType *type = format::ggufType(typeId);
    if (!type)
      return error(what + " has the unknown type " + Twine(typeId));
    if (tensor.shape.back() % type->blockElements != 0)
      return error(what + " has rows of " + Twine(tensor.shape.back()) + " elements; " +
                   type->name + " needs a multiple of " + Twine(type->blockElements));
    std::optional<uint64_t> size = storedBytes(type->blockElements, type->blockBytes, tensor.shape);
    if (!size)
      return error("the size of " + what + " overflows 63 bits");
    tensor.size = *size;
    tensor.fileType = type->name.str();
    tensor.spec = type->spec;
    model.tensors.push_back(std::move(tensor));
  }
  return Error::success();
}

/// Makes offsets absolute; checks alignment, the end of the file and overlaps.
Error Parser::ranges() {
  uint64_t start = cursor.position();
  uint64_t padding = (alignment - start % alignment) % alignment;
  start += padding;
  std::vector<TensorInfo *> order;
  for (size_t i = firstTensor; i < model.tensors.size(); ++i) {
    TensorInfo &tensor = model.tensors[i];
    std::string what = "tensor '" + tensor.name + "'";
    if (tensor.offset % alignment != 0)
      return error(what + " lies at offset " + Twine(tensor.offset) +
                   ", not a multiple of the alignment " + Twine(alignment));
    if (start > fileSize || tensor.offset > fileSize - start ||
        tensor.size > fileSize - start - tensor.offset)
      return error(what + " needs " + Twine(tensor.size) + " bytes at offset " +
                   Twine(tensor.offset) + " of the data, which begins at byte " + Twine(start) +
                   "; the file ends at byte " + Twine(fileSize));
    tensor.offset += start;
    order.push_back(&tensor);
  }
  llvm::sort(order, [](const TensorInfo *a, const TensorInfo *b) { return a->offset < b->offset; });
  for (size_t i = 1; i < order.size(); ++i)
    if (order[i - 1]->offset + order[i - 1]->size > order[i]->offset)
      return error("tensors '" + order[i - 1]->name + "' and '" + order[i]->name +
                   "' overlap at byte " + Twine(order[i]->offset));
  return Error::success();
}

} // namespace

Error parseGGUF(StringRef bytes, uint64_t fileSize, StringRef path, unsigned file,
                ModelFile &model) {
  return Parser(bytes, fileSize, path, file, model).run();
}

} // namespace quern::import
