//===- ModuleFile.h - Model-level IR and its data as files ------*- C++ -*-===//
//
// `OUT.mlirbc` (or .mlir) and, beside it, `OUT.mlirbc.weights`: the bytes of every weight, then the
// tokenizer and the chat format, each at a multiple of 64. The IR names that file by its bare name,
// size and BLAKE3 hash, so that the two can be moved together, and one that is not the other's is
// noticed. The tokenizer and the chat format are components named by attributes of the module.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_PIPELINE_MODULEFILE_H
#define QUERN_PIPELINE_MODULEFILE_H

#include "quern/Dialect/Quern/IR/QuernOps.h"
#include "llvm/Support/Error.h"

namespace quern {

inline constexpr uint64_t moduleDataAlignment = 64;
/// Where the data of IR at `path` go.
std::string moduleDataPath(llvm::StringRef path);

/// What a program needs beside the model: as it carries them (Runtime/Payload.h).
struct ModuleExtras {
  std::vector<uint8_t> tokenizer, chat;
};

/// Writes the module with all its data; it names the new file afterwards. Both files are written
/// aside, then renamed, the data first. Errors: data that cannot be read, a file that exists
/// (without `force`).
llvm::Error writeModuleFile(mlir::ModuleOp module, llvm::StringRef path, bool bytecode, bool force,
                            const ModuleExtras &extras);

/// Of a module read from `path`: finds its files, those with relative names beside it or else in
/// the working directory, and checks their sizes and, where it has them, hashes.
llvm::Error resolveData(mlir::ModuleOp module, llvm::StringRef path);

/// Fails for IR that writeModuleFile did not write. `path` is for messages.
llvm::Expected<ModuleExtras> readModuleExtras(mlir::ModuleOp module, llvm::StringRef path);

} // namespace quern

#endif // QUERN_PIPELINE_MODULEFILE_H
