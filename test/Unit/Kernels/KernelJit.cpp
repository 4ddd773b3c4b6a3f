//===- KernelJit.cpp - Runs kernel functions in the test's process --------===//
//
// MLIR to LLVM IR, LLVM's just-in-time compiler, a function pointer.
//
//===----------------------------------------------------------------------===//
#include "KernelJit.h"
#include "../Support/EmulateX86.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "quern/Emit/ObjectFile.h"
#include "quern/Pipeline/Register.h"
#include "quern/Target/TargetInfo.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/TargetParser/SubtargetFeature.h"
#include <cmath>
#include <gtest/gtest.h>
#include <map>
#include <mutex>

using namespace quern::test;

/// As the product's objects are made, and linked into a program to run under emulation.
static llvm::Expected<std::unique_ptr<ForeignProgram>>
compileForeign(llvm::Module &module, const quern::target::TargetInfo &target,
               std::vector<ForeignFunction> functions) {
  std::vector<std::string> exported;
  for (const ForeignFunction &f : functions)
    exported.push_back(f.name);
  auto object =
      quern::emit::compileModule(module, target, exported, quern::emit::CodeKind::Object);
  if (!object)
    return object.takeError();
  return ForeignProgram::link({object->data(), object->size()}, std::move(functions));
}

KernelJit::KernelJit(const std::string &text, const std::string &target) {
  static std::once_flag once;
  std::call_once(once, [] {
    quern::registerPasses();
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
  });
  mlir::DialectRegistry registry;
  quern::registerDialects(registry);
  mlir::registerBuiltinDialectTranslation(registry);
  mlir::registerLLVMDialectTranslation(registry);
  mlir::MLIRContext context(registry, mlir::MLIRContext::Threading::DISABLED);
  context.getDiagEngine().registerHandler(
      [&](mlir::Diagnostic &d) { error += d.str() + "\n"; });
  auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
  if (!module)
    return;
  std::vector<ForeignFunction> functions;
  for (auto function : module->getOps<mlir::func::FuncOp>()) {
    functions.push_back({function.getName().str(), {}, 3});
    for (mlir::Type type : function.getArgumentTypes())
      if (auto buffer = mlir::dyn_cast<mlir::MemRefType>(type))
        functions.back().bufferSizes.push_back(buffer.getNumElements() *
                                               buffer.getElementTypeBitWidth() / 8);
  }
  mlir::PassManager passes(&context);
  if (failed(mlir::parsePassPipeline("quern-lower-kernels{target=" + target +
                                         "},quern-kernels-to-llvm",
                                     passes)) ||
      failed(passes.run(*module)))
    return;
  auto info = quern::target::lookup(target);
  if (!info) {
    error = llvm::toString(info.takeError());
    return;
  }
  auto llvmContext = std::make_unique<llvm::LLVMContext>();
  auto llvmModule = mlir::translateModuleToLLVMIR(*module, *llvmContext);
  if (!llvmModule)
    return;
  if (info->isAArch64()) {
    auto linked = compileForeign(*llvmModule, *info, functions);
    if (linked)
      foreign = std::move(*linked);
    else
      error = llvm::toString(linked.takeError());
    return;
  }
  requestTiles(*info);
  if (needsEmulation(*info)) {
    if (llvm::Error e = emulateOnV3(*llvmModule)) {
      error = llvm::toString(std::move(e));
      return;
    }
    *info = executionTarget(*info);
  }
  llvm::orc::JITTargetMachineBuilder builder{llvm::Triple(info->triple)};
  builder.setCPU(info->cpu);
  builder.addFeatures(llvm::SubtargetFeatures(info->features).getFeatures());
  builder.setCodeGenOptLevel(llvm::CodeGenOptLevel::Default);
  auto made = llvm::orc::LLJITBuilder().setJITTargetMachineBuilder(builder).create();
  if (!made) {
    error = llvm::toString(made.takeError());
    return;
  }
  if (llvm::Error e = defineTileFunctions(**made)) {
    error = llvm::toString(std::move(e));
    return;
  }
  llvm::orc::ThreadSafeModule threadSafe(std::move(llvmModule), std::move(llvmContext));
  if (llvm::Error e = (*made)->addIRModule(std::move(threadSafe))) {
    error = llvm::toString(std::move(e));
    return;
  }
  jit = std::move(*made);
}

void *KernelJit::address(const char *name) {
  auto symbol = jit->lookup(name);
  if (!symbol) {
    ADD_FAILURE() << llvm::toString(symbol.takeError());
    abort();
  }
  return symbol->toPtr<void *>();
}

std::vector<std::string> quern::test::targetOfEachWidth() {
  std::map<unsigned, std::string> names;
  for (const quern::target::TargetInfo &t : x86Targets())
    names.insert({t.vectorBits, t.name});
  std::vector<std::string> result;
  for (const auto &[width, name] : names)
    result.push_back(name);
  if (ForeignProgram::available())
    result.push_back("aarch64");
  else
    std::puts("[ target   ] aarch64: skipped, for qemu-aarch64 or clang-22 is missing");
  return result;
}

std::string quern::test::testName(std::string target) {
  for (char &c : target)
    c = isalnum(c) ? c : '_';
  return target;
}

double quern::test::worstError(const std::vector<float> &actual,
                               const std::vector<float> &expected, double floor) {
  double worst = actual.size() == expected.size() ? 0 : INFINITY;
  for (size_t i = 0; i < std::min(actual.size(), expected.size()); ++i) {
    float a = actual[i], e = expected[i];
    if (std::isnan(a) && std::isnan(e))
      continue;
    if (!std::isfinite(a) || !std::isfinite(e)) {
      if (!(a == e))
        worst = INFINITY;
      continue;
    }
    worst = std::max(worst, std::fabs(double(a) - e) / std::max(std::fabs(double(e)), floor));
  }
  return worst;
}
