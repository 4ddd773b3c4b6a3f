//===- CompilePayload.cpp - What a program carries -----------------------===//
//
// Weights, tokenizer, chat template and metadata: in the image, or beside it.
//
//===----------------------------------------------------------------------===//
#include "Compilation.h"
#include "ModuleData.h"
#include "quern/Emit/Link.h"
#include "quern/Import/ChatTemplate.h"
#include "quern/Import/Tokenizer.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace quern;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

/// Weights, tokenizer and metadata, all of them or without the weights.
Error Compilation::writeSections(emit::PayloadWriter &writer) {
  if (Error e = step("weights", 0))
    return e;
  WeightData data(*owned->module);
  writer.begin(runtime::WeightSection);
  return packWeights(plan, data, writer, options.threads, [&](double fraction) {
    return !options.progress || options.progress("weights", fraction);
  });
}

Error Compilation::readTokenizer() {
  if (isIr) {
    Expected<ModuleExtras> extras = readModuleExtras(*owned->module, options.model);
    if (!extras)
      return extras.takeError();
    tokenizer = std::move(extras->tokenizer);
    chat = std::move(extras->chat);
    return Error::success();
  }
  chat = import::readChatFormat(model).serialize();
  auto data = import::readTokenizer(model);
  if (!data)
    return data.takeError();
  std::string error;
  tokenizer = data->serialize(error);
  if (!error.empty())
    return createStringError(options.model + ": tokenizer: " + error);
  return Error::success();
}

Error Compilation::writePayload(StringRef image) {
  Expected<std::string> text = metadata();
  if (!text)
    return text.takeError();
  auto writeRest = [&](emit::PayloadWriter &writer) {
    writer.begin(runtime::TokenizerSection);
    writer.write(tokenizer);
    writer.begin(runtime::ChatSection);
    writer.write(chat);
    writer.begin(runtime::MetadataSection);
    writer.write(*text);
    return writer.finish();
  };

  // An archive or object cannot carry a payload: everything lies beside.
  bool program = options.emit == EmitKind::Executable || options.emit == EmitKind::Shared;
  std::optional<uint64_t> hash;
  if (besides()) {
    auto file = OutputFile::create(output + ".weights", options.force);
    if (!file)
      return file.takeError();
    emit::PayloadWriter writer(*file);
    if (Error e = writeSections(writer))
      return e;
    hash = writer.weightsHash();
    if (Error e = program ? writer.finish() : writeRest(writer))
      return e;
  }
  auto file = OutputFile::create(output, options.force, options.emit == EmitKind::Executable);
  if (!file)
    return file.takeError();
  emit::PayloadWriter writer(*file);
  if (Error e = writer.copyImage(image))
    return e;
  if (!program)
    return file->keep();
  if (hash)
    writer.setWeightsBeside(*hash);
  else if (Error e = writeSections(writer))
    return e;
  return writeRest(writer);
}

Error Compilation::writeHeader() {
  Expected<std::string> dir = emit::linkDirectory();
  if (!dir)
    return dir.takeError();
  auto header = llvm::MemoryBuffer::getFile(*dir + "/quern.h");
  if (!header)
    return createStringError("cannot read '" + *dir + "/quern.h'");
  llvm::SmallString<128> path(llvm::sys::path::parent_path(output));
  llvm::sys::path::append(path, "quern.h");
  auto present = llvm::MemoryBuffer::getFile(path);
  if (present && (*present)->getBuffer() == (*header)->getBuffer())
    return Error::success();
  StringRef text = (*header)->getBuffer();
  return writeFile(path, ArrayRef<char>(text.begin(), text.end()), options.force);
}
