//===- ProgramTable.h - The object that defines quern_program ---*- C++ -*-===//
//
// Generated code meets the runtime in one constant, runtime/Program.h's
// quern_program_v1: sizes, targets with their forward functions, and where weights lie.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_EMIT_PROGRAMTABLE_H
#define QUERN_EMIT_PROGRAMTABLE_H

#include "llvm/IR/Module.h"
#include <cstdint>
#include <string>
#include <vector>

namespace quern::emit {

/// What quern_program_v1 is filled from; the fields mean the same.
struct ProgramTable {
  struct Target {
    std::string name, features; ///< features: LLVM's, "+avx2,+fma"
    std::string forward;        ///< symbol of its forward function
  };
  struct Weight {
    std::string name;
    uint64_t offset, size;
  };
  std::vector<Target> targets; ///< best first
  std::vector<Weight> weights; ///< in the order of the run-time table
  std::vector<std::string> parts; ///< symbols of the runtime that only some programs need
  int32_t vocabSize = 0, width = 0, context = 0, maxTokens = 0, maxThreads = 0;
  uint64_t cacheBytes = 0, scratchBytes = 0;
};

/// The symbol of a target's forward function: quern_forward_ and the name with underscores.
std::string forwardSymbol(llvm::StringRef targetName);

/// A module that defines quern_program_v1; with `withMain`, also a `main` that enters the
/// runtime's command line.
std::unique_ptr<llvm::Module> buildProgramTable(llvm::LLVMContext &context,
                                                const ProgramTable &table, bool withMain);

} // namespace quern::emit

#endif // QUERN_EMIT_PROGRAMTABLE_H
