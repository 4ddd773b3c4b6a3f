//===- ModuleFile.cpp - Model-level IR and its data as files --------------===//
//
// See ModuleFile.h. Bytes are hashed as they pass; memory stays bounded by one mapped component.
//
//===----------------------------------------------------------------------===//
#include "quern/Pipeline/ModuleFile.h"
#include "mlir/Bytecode/BytecodeWriter.h"
#include "mlir/IR/Builders.h"
#include "quern/Support/OutputFile.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/BLAKE3.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace quern;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

static constexpr StringLiteral tokenizerAttr = "quern.tokenizer", chatAttr = "quern.chat";

std::string quern::moduleDataPath(StringRef path) { return (path + ".weights").str(); }

static std::string finish(llvm::BLAKE3 &hash) {
  return "blake3:" + llvm::toHex(hash.final(), /*LowerCase=*/true);
}

/// The bytes of a component, mapped.
static Expected<std::unique_ptr<llvm::MemoryBuffer>> readPart(FileOp file, ComponentAttr part) {
  auto fail = [&](const Twine &why) {
    return createStringError("cannot read '" + file.getPath() + "': " + why);
  };
  uint64_t size = 0;
  if (std::error_code ec = llvm::sys::fs::file_size(file.getPath(), size))
    return fail(ec.message());
  if (part.getOffset() > size || part.getSize() > size - part.getOffset())
    return fail("it ends before byte " + Twine(part.getOffset() + part.getSize()));
  auto buffer = llvm::MemoryBuffer::getFileSlice(file.getPath(), part.getSize(), part.getOffset());
  if (!buffer)
    return fail(buffer.getError().message());
  return std::move(*buffer);
}

namespace {
/// Appends to the data file.
struct DataWriter {
  llvm::raw_ostream &os;
  FlatSymbolRefAttr file;
  llvm::BLAKE3 hash;

  void put(ArrayRef<uint8_t> bytes) {
    hash.update(bytes);
    os << llvm::toStringRef(bytes);
  }
  ComponentAttr add(ComponentRole role, ArrayRef<uint8_t> bytes, unsigned level = 0) {
    static const uint8_t zeros[moduleDataAlignment] = {};
    put(ArrayRef(zeros, llvm::offsetToAlignment(os.tell(), llvm::Align(moduleDataAlignment))));
    uint64_t at = os.tell();
    put(bytes);
    return ComponentAttr::get(file.getContext(), role, file, at, bytes.size(), level);
  }
};
} // namespace

Error quern::writeModuleFile(ModuleOp module, StringRef path, bool bytecode, bool force,
                             const ModuleExtras &extras) {
  MLIRContext *context = module.getContext();
  std::string dataPath = moduleDataPath(path);
  Expected<OutputFile> data = OutputFile::create(dataPath, force);
  if (!data)
    return data.takeError();
  Expected<OutputFile> ir = OutputFile::create(path, force);
  if (!ir)
    return ir.takeError();
  SymbolTable symbols(module);
  OpBuilder builder(context);
  builder.setInsertionPointToStart(module.getBody());
  // The symbol table finds another name where this one is taken.
  auto file = FileOp::create(builder, module.getLoc(), "weights",
                             llvm::sys::path::filename(dataPath), 0, StringAttr());
  SmallVector<FileOp> sources;
  for (auto other : module.getOps<FileOp>())
    if (other != file)
      sources.push_back(other);
  file->remove();
  symbols.insert(file, module.getBody()->begin());
  DataWriter writer{data->stream(), FlatSymbolRefAttr::get(file.getSymNameAttr()), {}};
  for (auto weight : module.getOps<WeightOp>()) {
    if (!weight.getComponents())
      continue;
    SmallVector<Attribute> parts;
    for (auto part : weight.getComponents()->getAsRange<ComponentAttr>()) {
      auto source = symbols.lookup<FileOp>(part.getFile().getValue());
      auto bytes = readPart(source, part);
      if (!bytes)
        return createStringError("weight '" + weight.getSymName() +
                                 "': " + llvm::toString(bytes.takeError()));
      parts.push_back(writer.add(part.getRole(), llvm::arrayRefFromStringRef((*bytes)->getBuffer()),
                                 part.getLevel()));
    }
    weight.setComponentsAttr(builder.getArrayAttr(parts));
  }
  module->setAttr(tokenizerAttr, writer.add(ComponentRole::Data, extras.tokenizer));
  module->setAttr(chatAttr, writer.add(ComponentRole::Data, extras.chat));
  for (FileOp source : sources)
    source->erase();
  file.setSize(data->stream().tell());
  file.setHashAttr(builder.getStringAttr(finish(writer.hash)));
  if (!bytecode)
    module->print(ir->stream());
  else if (failed(writeBytecodeToFile(module, ir->stream())))
    return createStringError("cannot serialize the module of '" + path + "'");
  if (Error e = data->keep())
    return e;
  return ir->keep();
}

Error quern::resolveData(ModuleOp module, StringRef path) {
  for (auto file : module.getOps<FileOp>()) {
    auto fail = [&](const Twine &why) {
      return createStringError(path + ": its data file '" + file.getPath() + "' " + why);
    };
    if (llvm::sys::path::is_relative(file.getPath())) {
      llvm::SmallString<128> beside(llvm::sys::path::parent_path(path));
      llvm::sys::path::append(beside, file.getPath());
      if (llvm::sys::fs::exists(beside) || !llvm::sys::fs::exists(file.getPath()))
        file.setPath(beside);
    }
    auto buffer = llvm::MemoryBuffer::getFile(file.getPath(), /*IsText=*/false,
                                              /*RequiresNullTerminator=*/false);
    if (!buffer)
      return fail("cannot be read: " + buffer.getError().message());
    StringRef bytes = (*buffer)->getBuffer();
    if (bytes.size() != uint64_t(file.getSize()))
      return fail("has changed: expected " + Twine(file.getSize()) + " bytes, found " +
                  Twine(bytes.size()));
    if (!file.getHash())
      continue;
    llvm::BLAKE3 hash;
    hash.update(bytes);
    if (std::string found = finish(hash); found != *file.getHash())
      return fail("has changed: expected " + *file.getHash() + ", found " + found);
  }
  return Error::success();
}

Expected<ModuleExtras> quern::readModuleExtras(ModuleOp module, StringRef path) {
  ModuleExtras out;
  SymbolTable symbols(module);
  for (auto [name, to] :
       {std::pair(tokenizerAttr, &out.tokenizer), std::pair(chatAttr, &out.chat)}) {
    auto part = module->getAttrOfType<ComponentAttr>(name);
    auto file = part ? symbols.lookup<FileOp>(part.getFile().getValue()) : FileOp();
    if (!file)
      return createStringError(path + ": this IR carries no tokenizer ('" + name +
                               "'); write it with `quern quantize`, or `quern compile "
                               "--emit=bytecode --weights beside`");
    auto bytes = readPart(file, part);
    if (!bytes)
      return createStringError(path + ": '" + name + "': " + llvm::toString(bytes.takeError()));
    auto data = llvm::arrayRefFromStringRef((*bytes)->getBuffer());
    to->assign(data.begin(), data.end());
  }
  return out;
}
