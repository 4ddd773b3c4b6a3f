//===- TargetCode.cpp - One target's share of a compilation ---------------===//
//
// The phases by name; each can be run alone in quern-opt.
//
//===----------------------------------------------------------------------===//
#include "TargetCode.h"
#include "quern/Dialect/Kernel/IR/Kernel.h"
#include "quern/Emit/ProgramTable.h"
#include "quern/Pipeline/Register.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/Support/MathExtras.h"
#include <mutex>

using namespace mlir;
using namespace quern;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

/// Keeps errors instead of printing them.
static void collectDiagnostics(OwnedModule &owned) {
  owned.context->getDiagEngine().registerHandler([&owned](Diagnostic &diagnostic) {
    if (diagnostic.getSeverity() != DiagnosticSeverity::Error)
      return success();
    std::string &text = owned.diagnostics;
    text += (text.empty() ? "" : "\n") + diagnostic.str();
    for (Diagnostic &note : diagnostic.getNotes())
      text += "\n  note: " + note.str();
    return success();
  });
}

Expected<std::unique_ptr<OwnedModule>> quern::parseModule(StringRef bytes) {
  auto owned = std::make_unique<OwnedModule>();
  DialectRegistry registry;
  registerDialects(registry);
  registerBuiltinDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
  // Targets are compiled side by side; threads inside each would only compete.
  owned->context = std::make_unique<MLIRContext>(registry, MLIRContext::Threading::DISABLED);
  collectDiagnostics(*owned);
  owned->module = parseSourceString<ModuleOp>(bytes, owned->context.get());
  if (!owned->module)
    return createStringError("cannot read the module back: " + owned->diagnostics);
  return std::move(owned);
}

Error quern::runPasses(OwnedModule &owned, StringRef pipeline) {
  static std::once_flag once;
  std::call_once(once, registerPasses);
  PassManager passes(owned.context.get());
  std::string message;
  llvm::raw_string_ostream os(message);
  if (failed(parsePassPipeline(pipeline, passes, os)))
    return createStringError("pipeline '" + pipeline + "': " + message);
  if (failed(passes.run(*owned.module)))
    return createStringError(owned.diagnostics.empty() ? "lowering failed in '" + pipeline.str() + "'"
                                                       : owned.diagnostics);
  return Error::success();
}

Error quern::verifyModel(OwnedModule &owned) { return runPasses(owned, "quern-verify-model"); }

Error quern::lowerToKernels(OwnedModule &owned, const target::TargetInfo &target) {
  return runPasses(owned, "func.func(quern-hoist-take-rows),cse,quern-to-kernels{target=" +
                              target.name + "},quern-insert-barriers,quern-plan-buffers");
}

Expected<TargetFacts> quern::collectFacts(ModuleOp module) {
  TargetFacts facts;
  uint64_t slotBytes = 0;
  Error error = Error::success();
  auto sameOrSet = [&](WeightSlot &slot, const WeightSlot &found) {
    if (slot.name.empty())
      slot = found;
    slot.bytes = std::max(slot.bytes, found.bytes);
  };
  for (auto schedule : module.getOps<kernel::ScheduleOp>()) {
    facts.maxTokens = std::max(facts.maxTokens, int64_t(schedule.getMaxTokens()));
    facts.scratchBytes =
        std::max(facts.scratchBytes,
                 llvm::alignTo(uint64_t(*schedule.getScratchBytes()), 64) +
                     maxThreads * llvm::alignTo(uint64_t(*schedule.getPrivateBytes()), 64));
    schedule.walk([&](Operation *op) {
      if (auto weight = dyn_cast<kernel::WeightOp>(op)) {
        auto type = cast<MemRefType>(weight.getType());
        Type element = type.getElementType();
        auto form = element.isF32()    ? WeightSlot::Form::F32
                    : element.isF16()  ? WeightSlot::Form::F16
                    : element.isBF16() ? WeightSlot::Form::BF16
                                       : WeightSlot::Form::Panels;
        size_t index = size_t(weight.getIndex());
        if (facts.slots.size() <= index) {
          facts.slots.resize(index + 1);
          facts.readers.resize(index + 1);
        }
        uint64_t bytes = uint64_t(weight.getByteOffset()) +
                         uint64_t(type.getNumElements()) * element.getIntOrFloatBitWidth() / 8;
        sameOrSet(facts.slots[index], {weight.getName().str(), bytes, form});
        for (Operation *user : weight->getUsers())
          if (auto launch = dyn_cast<kernel::LaunchOp>(user))
            if (!llvm::is_contained(facts.readers[index], launch.getKernel()))
              facts.readers[index].push_back(launch.getKernel().str());
      } else if (auto cache = dyn_cast<kernel::CacheOp>(op)) {
        auto type = cast<MemRefType>(cache.getType());
        slotBytes = std::max(slotBytes, uint64_t(type.getNumElements() / type.getDimSize(0)) *
                                            type.getElementTypeBitWidth() / 8);
      }
    });
  }
  facts.cacheBytes = slotBytes;
  for (auto function : module.getOps<func::FuncOp>())
    facts.kernels += !function.isDeclaration();
  for (auto [i, slot] : llvm::enumerate(facts.slots))
    if (slot.name.empty())
      return createStringError("the kernels' table of weights has no entry " + Twine(i));
  if (error)
    return std::move(error);
  return facts;
}

Expected<std::unique_ptr<llvm::Module>> quern::lowerToLlvm(OwnedModule &owned,
                                                           const target::TargetInfo &target,
                                                           llvm::LLVMContext &context) {
  if (Error e = runPasses(owned, "quern-lower-kernels{target=" + target.name +
                                     "},quern-kernels-to-llvm,quern-lower-schedule{symbol=" +
                                     emit::forwardSymbol(target.name) +
                                     " max-threads=" + std::to_string(maxThreads) + "}"))
    return std::move(e);
  std::unique_ptr<llvm::Module> module =
      translateModuleToLLVMIR(*owned.module, context, target.name);
  if (!module)
    return createStringError("target '" + target.name + "': " + owned.diagnostics);
  return std::move(module);
}
