//===- InspectModule.cpp - What model-level IR holds ----------------------===//
//
// The weights of a module as a table; their data is not read.
//
//===----------------------------------------------------------------------===//
#include "quern/Pipeline/InspectModule.h"
#include "TargetCode.h"
#include "quern/Dialect/Quern/IR/QuernOps.h"
#include "quern/Format/Known.h"
#include "quern/Format/Size.h"
#include "quern/Import/Inspect.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include <map>

using namespace mlir;
using namespace quern;
using llvm::createStringError;
using llvm::Expected;
using llvm::StringRef;
namespace json = llvm::json;

bool quern::isModule(StringRef path) {
  if (!llvm::sys::fs::is_regular_file(path))
    return false;
  auto start = llvm::MemoryBuffer::getFileSlice(path, 4, 0);
  return path.ends_with(".mlir") || (start && (*start)->getBuffer() == "ML\xefR");
}

Expected<json::Object> quern::inspectModule(StringRef path) {
  auto buffer = llvm::MemoryBuffer::getFile(path);
  if (!buffer)
    return createStringError("cannot read '" + path + "': " + buffer.getError().message());
  Expected<std::unique_ptr<OwnedModule>> owned = parseModule((*buffer)->getBuffer());
  if (!owned)
    return createStringError(path + ": " + llvm::toString(owned.takeError()));
  ModuleOp module = *(*owned)->module;

  // Strings are copied: those of the context do not outlive it.
  json::Array files, tensors;
  for (auto file : module.getOps<FileOp>())
    files.push_back(json::Object{{"path", file.getPath().str()}, {"bytes", int64_t(file.getSize())}});
  uint64_t total = 0;
  for (auto weight : module.getOps<WeightOp>()) {
    RankedTensorType type = weight.getTensorType();
    format::Spec spec = getFormat(type);
    Expected<uint64_t> bytes = format::storedBytes(spec, type.getShape());
    if (!bytes)
      return createStringError(path + ": weight '" + weight.getSymName() +
                               "': " + llvm::toString(bytes.takeError()));
    StringRef known = format::knownName(spec);
    json::Object tensor{
        {"name", weight.getSymName().str()},
        {"shape", json::Array(type.getShape())},
        {"format", known.empty() ? format::print(spec) : known.str()},
        {"bits", double(*bytes) * 8 / double(std::max<int64_t>(1, type.getNumElements()))},
        {"bytes", int64_t(*bytes)}};
    if (weight.isView())
      tensor["view_of"] = weight.getSource()->str();
    else
      total += *bytes;
    tensors.push_back(std::move(tensor));
  }
  if (tensors.empty())
    return createStringError(path + ": this module holds no quern.weight");
  std::map<StringRef, int64_t> counts;
  module.walk([&](Operation *op) {
    if (isa_and_nonnull<QuernDialect>(op->getDialect()) && op->getParentOp() != module)
      ++counts[op->getName().getStringRef()];
  });
  json::Object ops;
  for (auto [name, count] : counts)
    ops[name.str()] = count;
  return json::Object{{"path", path},
                      {"container", "mlir"},
                      {"files", std::move(files)},
                      {"tensors", std::move(tensors)},
                      {"bytes", int64_t(total)},
                      {"ops", std::move(ops)}};
}

void quern::printModule(const json::Object &report, llvm::raw_ostream &os) {
  const json::Array &tensors = *report.getArray("tensors");
  os << report.getString("path").value_or("") << ": model-level IR, " << tensors.size()
     << " tensors, " << report.getInteger("bytes").value_or(0) << " bytes\n";
  for (const json::Value &file : *report.getArray("files"))
    os << "  data in " << file.getAsObject()->getString("path").value_or("") << "\n";
  os << "\n";
  import::printTensorTable(tensors, os);
}
