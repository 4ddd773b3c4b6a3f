//===- ObjectFile.cpp - LLVM IR to machine code ---------------------------===//
//
// The CPU name only tunes; instructions come from the baseline plus the target's own
// feature list, because that list is what an emitted program checks at start.
//
//===----------------------------------------------------------------------===//
#include "quern/Emit/ObjectFile.h"
#include "llvm/Analysis/CGSCCPassManager.h"
#include "llvm/Analysis/LoopAnalysisManager.h"
#include "llvm/IR/DiagnosticInfo.h"
#include "llvm/IR/DiagnosticPrinter.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Verifier.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Support/ThreadPool.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/Transforms/IPO/Internalize.h"
#include <mutex>

using namespace llvm;

namespace quern::emit {

static void initializeTargets() {
  static std::once_flag once;
  std::call_once(once, [] {
    InitializeAllTargetInfos();
    InitializeAllTargets();
    InitializeAllTargetMCs();
    InitializeAllAsmPrinters();
    InitializeAllAsmParsers();
  });
}

static Expected<std::unique_ptr<TargetMachine>> createMachine(const target::TargetInfo &info) {
  initializeTargets();
  std::string error;
  Triple triple(info.triple);
  const Target *target = TargetRegistry::lookupTarget(triple, error);
  if (!target)
    return createStringError("target '" + info.name + "': " + error);
  TargetOptions options;
  options.AllowFPOpFusion = FPOpFusion::Standard; // only what the IR marks may fuse
  options.FunctionSections = true;
  // Without features of its own a module is code that runs before the CPU is checked.
  StringRef baseline = !info.isX86() ? "generic" : info.features.empty() ? "x86-64" : "x86-64-v3";
  std::unique_ptr<TargetMachine> machine(
      target->createTargetMachine(triple, baseline, info.features, options, Reloc::PIC_,
                                  std::nullopt, CodeGenOptLevel::Default));
  if (!machine)
    return createStringError("target '" + info.name + "': no code generator");
  return std::move(machine);
}

static void setAttributes(Module &module, const target::TargetInfo &info, TargetMachine &machine) {
  module.setTargetTriple(machine.getTargetTriple());
  module.setDataLayout(machine.createDataLayout());
  module.setPICLevel(PICLevel::BigPIC);
  std::string bits = std::to_string(info.vectorBits);
  for (Function &f : module) {
    if (f.isDeclaration())
      continue;
    f.addFnAttr("target-cpu", machine.getTargetCPU());
    f.addFnAttr("target-features", info.features);
    f.addFnAttr("tune-cpu", info.cpu);
    f.addFnAttr("prefer-vector-width", bits);
    f.addFnAttr("min-legal-vector-width", bits);
    f.addFnAttr(Attribute::NoUnwind);
  }
}

static void optimize(Module &module, TargetMachine &machine) {
  LoopAnalysisManager lam;
  FunctionAnalysisManager fam;
  CGSCCAnalysisManager cgam;
  ModuleAnalysisManager mam;
  PassBuilder builder(&machine);
  builder.registerModuleAnalyses(mam);
  builder.registerCGSCCAnalyses(cgam);
  builder.registerFunctionAnalyses(fam);
  builder.registerLoopAnalyses(lam);
  builder.crossRegisterProxies(lam, fam, cgam, mam);
  builder.buildPerModuleDefaultPipeline(OptimizationLevel::O2).run(module, mam);
}

namespace {
/// Turns LLVM's error diagnostics into text, so that nothing aborts or prints.
struct CollectErrors : DiagnosticHandler {
  explicit CollectErrors(std::string &text) : text(text) {}
  bool handleDiagnostics(const DiagnosticInfo &info) override {
    if (info.getSeverity() != DS_Error)
      return true;
    raw_string_ostream os(text);
    DiagnosticPrinterRawOStream printer(os);
    info.print(printer);
    os << "\n";
    return true;
  }
  std::string &text;
};
} // namespace

Expected<Bytes> compileModule(Module &module, const target::TargetInfo &info,
                              ArrayRef<std::string> exported, CodeKind kind) {
  auto machine = createMachine(info);
  if (!machine)
    return machine.takeError();
  std::string errors;
  module.getContext().setDiagnosticHandler(std::make_unique<CollectErrors>(errors));
  setAttributes(module, info, **machine);
  internalizeModule(
      module, [&](const GlobalValue &value) { return is_contained(exported, value.getName()); });
  raw_string_ostream verifierText(errors);
  if (verifyModule(module, &verifierText))
    return createStringError("target '" + info.name + "': generated IR is invalid: " + errors);
  optimize(module, **machine);

  Bytes bytes;
  raw_svector_ostream os(bytes);
  if (kind == CodeKind::Llvm) {
    module.print(os, nullptr);
  } else {
    legacy::PassManager passes;
    auto type =
        kind == CodeKind::Object ? CodeGenFileType::ObjectFile : CodeGenFileType::AssemblyFile;
    if ((*machine)->addPassesToEmitFile(passes, os, nullptr, type))
      return createStringError("target '" + info.name + "' cannot write this kind of file");
    passes.run(module);
  }
  if (!errors.empty())
    return createStringError("target '" + info.name + "': " + errors);
  return std::move(bytes);
}

Expected<std::vector<Bytes>> compileModules(ArrayRef<TargetModule> modules, CodeKind kind,
                                            unsigned threads) {
  initializeTargets();
  std::vector<Bytes> results(modules.size());
  std::vector<std::string> failures(modules.size());
  DefaultThreadPool pool(hardware_concurrency(threads));
  for (size_t i = 0; i < modules.size(); ++i)
    pool.async([&, i] {
      LLVMContext context;
      Expected<std::unique_ptr<Module>> module = modules[i].build(context);
      if (!module) {
        failures[i] = toString(module.takeError());
        return;
      }
      Expected<Bytes> bytes = compileModule(**module, modules[i].target, modules[i].exported, kind);
      if (bytes)
        results[i] = std::move(*bytes);
      else
        failures[i] = toString(bytes.takeError());
    });
  pool.wait();
  for (const std::string &failure : failures)
    if (!failure.empty())
      return createStringError(failure);
  return std::move(results);
}

} // namespace quern::emit
