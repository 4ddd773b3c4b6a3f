//===- ObjectFile.h - LLVM IR to machine code, in process -------*- C++ -*-===//
//
// One module per CPU target, optimized and compiled with exactly the features the
// target lists: the same bytes on every host, whatever the number of threads.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_EMIT_OBJECTFILE_H
#define QUERN_EMIT_OBJECTFILE_H

#include "quern/Target/TargetInfo.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/Error.h"
#include <functional>
#include <vector>

namespace quern::emit {

using Bytes = llvm::SmallVector<char, 0>;

enum class CodeKind { Object, Assembly, Llvm };

/// Optimizes `module` for `target` (LLVM's O2) and writes the form asked for. Only the functions
/// named in `exported` stay visible. Diagnostics name the target.
llvm::Expected<Bytes> compileModule(llvm::Module &module, const target::TargetInfo &target,
                                    llvm::ArrayRef<std::string> exported, CodeKind kind);

/// A target and how to make its module, in a context of its own (so that targets can
/// be compiled side by side).
struct TargetModule {
  target::TargetInfo target;
  std::function<llvm::Expected<std::unique_ptr<llvm::Module>>(llvm::LLVMContext &)> build;
  std::vector<std::string> exported;
};

/// Compiles all, `threads` at a time. Results are in the order of `modules`.
llvm::Expected<std::vector<Bytes>> compileModules(llvm::ArrayRef<TargetModule> modules,
                                                  CodeKind kind, unsigned threads);

} // namespace quern::emit

#endif // QUERN_EMIT_OBJECTFILE_H
