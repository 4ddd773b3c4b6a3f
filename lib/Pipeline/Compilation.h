//===- Compilation.h - The state of one run of compile() --------*- C++ -*-===//
//
// What the steps hand on to one another. CompileOptions.cpp checks what was asked for, Compile.cpp
// builds and lowers, CompileProgram.cpp generates and links code, CompilePayload.cpp writes what
// programs carry, CompileReport.cpp says what came of it.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_PIPELINE_COMPILATION_H
#define QUERN_LIB_PIPELINE_COMPILATION_H

#include "TargetCode.h"
#include "quern/Architectures/Architectures.h"
#include "quern/Emit/ObjectFile.h"
#include "quern/Pipeline/Compile.h"
#include "quern/Pipeline/Register.h"

namespace quern {

class Compilation {
public:
  explicit Compilation(const CompileOptions &options) : options(options) {}
  llvm::Expected<llvm::json::Object> run();

private:
  llvm::Error checkOptions();
  llvm::Error buildModel();
  llvm::Error readModel();
  llvm::Error readModuleFile();
  llvm::Error lowerForPlan();
  llvm::Error writeModule();
  llvm::Error writeText();
  llvm::Expected<std::vector<emit::Bytes>> generateCode(emit::CodeKind kind);
  llvm::Error writeProgram();
  using ModuleBuilder = llvm::function_ref<std::unique_ptr<llvm::Module>(llvm::LLVMContext &)>;
  llvm::Expected<emit::Bytes> startCode(ModuleBuilder build);
  llvm::Error packObjects(std::vector<std::string> &objects);
  llvm::Error readTokenizer();
  llvm::Error writePayload(llvm::StringRef image);
  llvm::Error writeSections(emit::PayloadWriter &writer);
  llvm::Error writeHeader();
  llvm::Expected<std::string> metadata();
  llvm::json::Array tensorTable();
  llvm::json::Array paddedTable();
  llvm::json::Object shortReport();
  llvm::json::Object report();
  llvm::Error step(llvm::StringRef phase, double fraction) {
    if (options.progress && !options.progress(phase, fraction))
      return llvm::createStringError("cancelled");
    return llvm::Error::success();
  }
  bool besides() const {
    return options.weightsBeside || options.emit == EmitKind::Object ||
           options.emit == EmitKind::Library;
  }

  const CompileOptions &options;
  std::string output;
  std::vector<target::TargetInfo> targets; ///< best first
  import::ModelFile model;
  import::ModelConfig config; ///< of IR: name, architecture and context alone
  bool isIr = false;          ///< `model` was not read
  std::optional<format::Spec> format;
  architectures::BuildOptions build;
  std::unique_ptr<OwnedModule> owned; ///< the model level
  std::string bytecode;               ///< the same
  std::vector<TargetFacts> facts;     ///< by target
  PackPlan plan;
  std::vector<uint8_t> tokenizer;   ///< the blob
  std::vector<uint8_t> chat;        ///< the format, serialized
  llvm::SmallString<128> temporary; ///< folder for objects
};

/// What a model is called after its file or folder.
std::string fileName(llvm::StringRef model);

/// Writes `bytes` aside, then renames.
llvm::Error writeFile(llvm::StringRef path, llvm::ArrayRef<char> bytes, bool force);

} // namespace quern

#endif // QUERN_LIB_PIPELINE_COMPILATION_H
