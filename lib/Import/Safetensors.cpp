//===- Safetensors.cpp - Reads the header of a .safetensors file ----------===//
//
// Eight bytes of length, a JSON object from names to type, shape and range, then
// the data. As strict as the format's own reader: no holes, no overlaps.
//
//===----------------------------------------------------------------------===//
#include "Common.h"
#include "quern/Import/Parsers.h"
#include "quern/Import/TensorTypes.h"

using namespace llvm;

namespace quern::import {

static constexpr uint64_t maxHeader = 100000000; // the format's own limit
static constexpr size_t maxRank = 8;

namespace {
class Parser {
public:
  Parser(StringRef path, unsigned file, ModelFile &model) : path(path), file(file), model(model) {}
  Error run(StringRef bytes, uint64_t fileSize);

private:
  Error error(const Twine &message) { return fileError(path, "safetensors: " + message); }
  Error tensor(StringRef name, const json::Value &value);
  Error fileMetadata(const json::Value &value);
  Error ranges(size_t first);

  StringRef path;
  unsigned file;
  ModelFile &model;
  uint64_t dataStart = 0, dataSize = 0;
};
} // namespace

Error Parser::run(StringRef bytes, uint64_t fileSize) {
  Cursor cursor(bytes);
  uint64_t length;
  if (!cursor.read(length))
    return error("expected 8 bytes of header length, found a file of " + Twine(fileSize) +
                 " bytes");
  if (length > maxHeader)
    return error("the header's length is " + Twine(length) + "; at most " + Twine(maxHeader) +
                 " is allowed");
  StringRef text;
  if (!cursor.read(text, length))
    return error("the header's length is " + Twine(length) + ", but the file has only " +
                 Twine(fileSize) + " bytes");
  if (!text.starts_with("{"))
    return error("expected the header to begin with '{'");
  dataStart = cursor.position();
  dataSize = fileSize - dataStart;
  Expected<json::Value> value = parseJson(text, path);
  if (!value)
    return value.takeError();
  const json::Object *header = value->getAsObject();
  if (!header)
    return error("expected the header to be an object");

  size_t first = model.tensors.size();
  for (const auto &entry : *header) {
    StringRef name = entry.first;
    if (Error e = name == "__metadata__" ? fileMetadata(entry.second) : tensor(name, entry.second))
      return e;
  }
  return ranges(first);
}

Error Parser::fileMetadata(const json::Value &value) {
  const json::Object *object = value.getAsObject();
  if (!object)
    return error("expected '__metadata__' to be an object");
  json::Object merged;
  if (const json::Object *old = model.metadata.getObject("safetensors"))
    merged = *old;
  for (const auto &entry : *object) {
    if (!entry.second.getAsString())
      return error("expected '__metadata__' key '" + StringRef(entry.first) + "' to be a string");
    merged[entry.first] = entry.second;
  }
  model.metadata["safetensors"] = std::move(merged);
  return Error::success();
}

Error Parser::tensor(StringRef name, const json::Value &value) {
  std::string what = ("tensor '" + name + "'").str();
  const json::Object *object = value.getAsObject();
  if (!object)
    return error("expected " + what + " to be an object");
  std::optional<StringRef> dtype = object->getString("dtype");
  const json::Array *shape = object->getArray("shape");
  const json::Array *range = object->getArray("data_offsets");
  if (!dtype || !shape || !range)
    return error(what + " lacks '" + (!dtype ? "dtype" : !shape ? "shape" : "data_offsets") + "'");
  const ArrayType *type = arrayType(*dtype);
  if (!type)
    return error(what + " has the unknown type '" + *dtype + "'");

  TensorInfo info;
  info.name = name.str();
  info.file = file;
  info.fileType = type->name.str();
  if (shape->size() > maxRank)
    return error(what + " has " + Twine(shape->size()) + " dimensions; at most " + Twine(maxRank) +
                 " are supported");
  for (const json::Value &extent : *shape) {
    std::optional<int64_t> n = integerOf(&extent);
    if (!n || *n < 0)
      return error("the shape of " + what + " holds something other than sizes");
    info.shape.push_back(*n);
  }
  std::optional<uint64_t> size = storedBytes(1, type->bytes, info.shape);
  if (!size)
    return error("the size of " + what + " overflows 63 bits");
  std::optional<uint64_t> begin, end;
  if (range->size() == 2) {
    begin = (*range)[0].getAsUINT64();
    end = (*range)[1].getAsUINT64();
  }
  if (!begin || !end || *begin > *end)
    return error("expected 'data_offsets' of " + what + " to be [begin, end]");
  if (*end - *begin != *size)
    return error(what + " of type " + type->name + " needs " + Twine(*size) +
                 " bytes, its range has " + Twine(*end - *begin));
  if (*end > dataSize)
    return error(what + " ends at byte " + Twine(*end) + " of the data, which has " +
                 Twine(dataSize));
  info.offset = dataStart + *begin;
  info.size = *size;
  if (std::optional<format::Spec> spec = specOf(*type))
    info.spec = std::move(*spec);
  else
    info.decodable = false;
  model.tensors.push_back(std::move(info));
  return Error::success();
}

/// Puts the file's tensors in the order of their data (JSON objects have none) and checks
/// that they tile it exactly.
Error Parser::ranges(size_t first) {
  auto begin = model.tensors.begin() + first, end = model.tensors.end();
  std::sort(begin, end, [](const TensorInfo &a, const TensorInfo &b) {
    return std::tie(a.offset, a.size, a.name) < std::tie(b.offset, b.size, b.name);
  });
  uint64_t at = dataStart;
  for (auto i = begin; i != end; ++i) {
    if (i->offset < at)
      return error("tensors '" + std::prev(i)->name + "' and '" + i->name + "' overlap");
    if (i->offset > at)
      return error(Twine(i->offset - at) + " bytes before tensor '" + i->name +
                   "' belong to no tensor");
    at += i->size;
  }
  if (at - dataStart != dataSize)
    return error("the tensors end at byte " + Twine(at) + ", the file at byte " +
                 Twine(dataStart + dataSize));
  return Error::success();
}

Error parseSafetensors(StringRef bytes, uint64_t fileSize, StringRef path, unsigned file,
                       ModelFile &model) {
  return Parser(path, file, model).run(bytes, fileSize);
}

} // namespace quern::import
