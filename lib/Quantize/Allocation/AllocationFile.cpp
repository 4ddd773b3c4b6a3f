//===- AllocationFile.cpp - A choice of formats as a file -----------------===//
//
// {"quern": "allocation", "version": 1, "tensors": {"blk.0.attn_q.weight": "Q4_K", ...}, ...}: what
// an allocator hands on to a solver, to be read, edited or made by another program.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Allocation.h"
#include "quern/Support/Json.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Expected;
using llvm::StringRef;
namespace json = llvm::json;

json::Object quern::quantize::allocationOf(const json::Object &report) {
  json::Object tensors;
  for (const json::Value &value : *report.getArray("tensors")) {
    const json::Object &tensor = *value.getAsObject();
    tensors[*tensor.getString("name")] = *tensor.getString("format");
  }
  json::Object out{{"quern", "allocation"}, {"version", 1}, {"tensors", std::move(tensors)}};
  for (StringRef key : {"model", "text", "provider", "engine", "solver", "bytes", "bits",
                        "expected_loss", "kl", "held_back_kl", "tokens_per_second", "recipe"})
    if (const json::Value *value = report.get(key))
      out[key] = *value;
  return out;
}

Expected<std::vector<std::pair<std::string, std::string>>>
quern::quantize::readAllocation(StringRef path) {
  auto buffer = llvm::MemoryBuffer::getFile(path);
  if (!buffer)
    return createStringError("cannot read '" + path + "': " + buffer.getError().message());
  auto bad = [&](const llvm::Twine &why) {
    return createStringError("'" + path + "' is no file of `quern allocate`: " + why);
  };
  Expected<json::Value> parsed =
      parseJson((*buffer)->getBuffer(), ("'" + path + "' is no file of `quern allocate`").str());
  if (!parsed)
    return parsed.takeError();
  const json::Object *object = parsed->getAsObject();
  if (!object || object->getString("quern") != "allocation")
    return bad("expected \"quern\": \"allocation\"");
  if (integerOf(*object, "version") != 1)
    return bad("expected version 1");
  const json::Object *tensors = object->getObject("tensors");
  if (!tensors)
    return bad("expected tensors");
  std::vector<std::pair<std::string, std::string>> out;
  for (const auto &[name, format] : *tensors) {
    if (!format.getAsString())
      return bad("expected the name of a format for '" + StringRef(name) + "'");
    out.emplace_back(name.str(), format.getAsString()->str());
  }
  return out;
}
