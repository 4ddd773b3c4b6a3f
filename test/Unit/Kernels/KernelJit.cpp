//===- KernelJit.cpp - Runs kernel functions in the test's process --------===//
//
// MLIR to LLVM IR, LLVM's just-in-time compiler, a function pointer.
//
//===----------------------------------------------------------------------===//
#include "KernelJit.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "quern/Pipeline/Register.h"
#include "quern/Target/TargetInfo.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/TargetParser/SubtargetFeature.h"
#include <cmath>
#include <gtest/gtest.h>
#include <mutex>

using namespace quern::test;

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
  llvm::orc::JITTargetMachineBuilder builder{llvm::Triple(info->triple)};
  builder.setCPU(info->cpu);
  builder.addFeatures(llvm::SubtargetFeatures(info->features).getFeatures());
  builder.setCodeGenOptLevel(llvm::CodeGenOptLevel::Default);
  auto made = llvm::orc::LLJITBuilder().setJITTargetMachineBuilder(builder).create();
  if (!made) {
    error = llvm::toString(made.takeError());
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

std::vector<std::string> quern::test::runnableTargets() {
  std::vector<std::string> names;
  for (const quern::target::TargetInfo &t : quern::target::knownTargets())
    if (quern::target::hostCanRun(t))
      names.push_back(t.name);
  return names;
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
