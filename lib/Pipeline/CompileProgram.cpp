//===- CompileProgram.cpp - Code of all targets, linked ------------------===//
//
// One object per target and one with the table that describes them; the linker makes the image.
//
//===----------------------------------------------------------------------===//
#include "Compilation.h"
#include "quern/Emit/Link.h"
#include "quern/Emit/PackCode.h"
#include "quern/Emit/ProgramTable.h"
#include "quern/Runtime/TokenizerData.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace quern;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

Expected<std::vector<emit::Bytes>> Compilation::generateCode(emit::CodeKind kind) {
  std::vector<emit::TargetModule> modules;
  for (const target::TargetInfo &t : targets)
    modules.push_back(
        {t,
         [this, t](llvm::LLVMContext &context) -> Expected<std::unique_ptr<llvm::Module>> {
           auto kernels = parseModule(bytecode);
           if (!kernels)
             return kernels.takeError();
           if (Error e = lowerToKernels(**kernels, t))
             return std::move(e);
           return lowerToLlvm(**kernels, t, context);
         },
         {emit::forwardSymbol(t.name)}});
  return emit::compileModules(modules, kind, options.threads);
}

Error quern::writeFile(StringRef path, ArrayRef<char> bytes, bool force) {
  auto file = OutputFile::create(path, force);
  if (!file)
    return file.takeError();
  file->stream().write(bytes.data(), bytes.size());
  return file->keep();
}

Error Compilation::writeText() {
  auto code = generateCode(options.emit == EmitKind::Llvm ? emit::CodeKind::Llvm
                                                          : emit::CodeKind::Assembly);
  if (!code)
    return code.takeError();
  return writeFile(output, (*code)[0], options.force);
}

/// An object of code that runs before the CPU is checked, so that it may use only the baseline.
Expected<emit::Bytes> Compilation::startCode(ModuleBuilder build) {
  emit::TargetModule module{
      targets.back(), // the least demanding one: it runs wherever any does
      [&](llvm::LLVMContext &context) -> Expected<std::unique_ptr<llvm::Module>> {
        return build(context);
      },
      {"quern_program_v1", "main"}};
  if (module.target.isX86()) {
    module.target.cpu = "x86-64";
    module.target.features = "";
  }
  auto code = emit::compileModules({module}, emit::CodeKind::Object, 1);
  if (!code)
    return code.takeError();
  return std::move((*code)[0]);
}

/// Links the objects, packs the image and puts one object in their place that unpacks it.
Error Compilation::packObjects(std::vector<std::string> &objects) {
  std::string code = (temporary + "/code").str();
  if (Error e = emit::link(emit::ImageKind::Code, objects, code))
    return e;
  auto packed = emit::packCode(code);
  if (!packed)
    return packed.takeError();
  auto start = startCode([&](llvm::LLVMContext &context) {
    return emit::buildUnpackingMain(context, *packed);
  });
  if (!start)
    return start.takeError();
  objects = {(temporary + "/start.o").str()};
  return writeFile(objects[0], *start, true);
}

Error Compilation::writeProgram() {
  if (Error e = step("code", 0))
    return e;
  auto code = generateCode(emit::CodeKind::Object);
  if (!code)
    return code.takeError();
  if (Error e = step("link", 0))
    return e;

  if (Error e = readTokenizer())
    return e;
  emit::ProgramTable table;
  for (const char *part : runtime::tokenizerParts(tokenizer))
    table.parts.push_back(part);
  for (const target::TargetInfo &t : targets)
    table.targets.push_back({t.name, t.features, emit::forwardSymbol(t.name)});
  for (const PackedWeight &w : plan.weights)
    table.weights.push_back({WeightOp(w.weight).getSymName().str(), w.offset, w.size});
  table.vocabSize = int32_t(config.vocab);
  table.width = int32_t(config.width);
  table.context = int32_t(build.context);
  table.maxTokens = int32_t(facts[0].maxTokens);
  table.maxThreads = maxThreads;
  table.cacheBytes = facts[0].cacheBytes;
  for (const TargetFacts &f : facts)
    table.scratchBytes = std::max(table.scratchBytes, f.scratchBytes);
  bool packs = options.emit == EmitKind::Executable && options.packCode;
  auto tableCode = startCode([&](llvm::LLVMContext &context) {
    return emit::buildProgramTable(context, table,
                                   options.emit == EmitKind::Executable && !packs);
  });
  if (!tableCode)
    return tableCode.takeError();

  if (std::error_code ec = llvm::sys::fs::createUniqueDirectory("quern", temporary))
    return createStringError("cannot create a temporary folder: " + ec.message());
  std::vector<std::string> objects;
  auto addObject = [&](const llvm::Twine &name, const emit::Bytes &bytes) {
    objects.push_back((temporary + "/" + name + ".o").str());
    return writeFile(objects.back(), bytes, true);
  };
  for (auto [target, bytes] : llvm::zip(targets, *code))
    if (Error e = addObject(target.name, bytes))
      return e;
  if (Error e = addObject("program", *tableCode))
    return e;
  std::string image = (temporary + "/image").str();
  if (options.emit == EmitKind::Shared) // the file's name becomes the library's own
    image = (temporary + "/" + llvm::sys::path::filename(output)).str();
  if (packs)
    if (Error e = packObjects(objects))
      return e;
  Error linked = options.emit == EmitKind::Library
                     ? emit::archive(objects, image)
                     : emit::link(packs                                  ? emit::ImageKind::Start
                                  : options.emit == EmitKind::Executable ? emit::ImageKind::Executable
                                  : options.emit == EmitKind::Shared ? emit::ImageKind::Shared
                                                                     : emit::ImageKind::Relocatable,
                                  objects, image);
  if (linked)
    return linked;
  if (Error e = writePayload(image))
    return e;
  return options.emit == EmitKind::Library || options.emit == EmitKind::Shared ? writeHeader()
                                                                               : Error::success();
}
