//===- TargetCode.h - One target's share of a compilation -------*- C++ -*-===//
//
// Runs the passes from the model level to LLVM IR for one CPU target, and notes what the
// rest of the program must know about the result.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_PIPELINE_TARGETCODE_H
#define QUERN_LIB_PIPELINE_TARGETCODE_H

#include "quern/Pipeline/PackWeights.h"
#include "quern/Target/TargetInfo.h"
#include "mlir/IR/OwningOpRef.h"
#include "llvm/IR/Module.h"
#include <map>

namespace quern {

/// What a target's kernel level says about the program.
struct TargetFacts {
  std::vector<WeightSlot> slots;
  int64_t maxTokens = 0;
  uint64_t scratchBytes = 0, cacheBytes = 0;
  unsigned kernels = 0;
  /// Names of the kernels that read each slot, without repetitions.
  std::vector<std::vector<std::string>> readers;
};

/// Threads the scratch memory has private parts for.
inline constexpr int32_t maxThreads = 64;

/// A module in a context of its own.
struct OwnedModule {
  std::unique_ptr<mlir::MLIRContext> context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  std::string diagnostics; ///< errors that MLIR reported
};

/// Parses bytecode (or text) into a fresh context with all dialects.
llvm::Expected<std::unique_ptr<OwnedModule>> parseModule(llvm::StringRef bytes);

/// Checks what lowering relies on and no single op can know.
llvm::Error verifyModel(OwnedModule &owned);

/// Runs a textual pass pipeline on the module.
llvm::Error runPasses(OwnedModule &owned, llvm::StringRef pipeline);

/// Model level to a planned kernel level, in place.
llvm::Error lowerToKernels(OwnedModule &owned, const target::TargetInfo &target);
llvm::Expected<TargetFacts> collectFacts(mlir::ModuleOp kernels);

/// Kernel level to the LLVM dialect, in place; then to LLVM IR.
llvm::Expected<std::unique_ptr<llvm::Module>> lowerToLlvm(OwnedModule &owned,
                                                          const target::TargetInfo &target,
                                                          llvm::LLVMContext &context);

} // namespace quern

#endif // QUERN_LIB_PIPELINE_TARGETCODE_H
