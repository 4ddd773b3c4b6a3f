//===- Parsers.h - The file parsers on bytes in memory ----------*- C++ -*-===//
//
// open() in its parts: what reads a header from memory, for the importers
// themselves, for tests and for fuzzing. Nothing here touches the file system.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_IMPORT_PARSERS_H
#define QUERN_IMPORT_PARSERS_H

#include "quern/Import/ModelFile.h"

namespace quern::import {

/// Parses the header of one GGUF file into `model`: metadata, and tensors whose `file` is `file`.
/// `bytes` holds the file from its start (all of it, or at least the header); `fileSize` is its
/// whole size, against which tensor ranges are checked.
llvm::Error parseGGUF(llvm::StringRef bytes, uint64_t fileSize, llvm::StringRef path, unsigned file,
                      ModelFile &model);

/// The same for one .safetensors file. `__metadata__` is merged into metadata["safetensors"].
llvm::Error parseSafetensors(llvm::StringRef bytes, uint64_t fileSize, llvm::StringRef path,
                             unsigned file, ModelFile &model);

/// Refuses a config.json that declares quantized weights, naming the method.
llvm::Error refuseQuantized(const llvm::json::Object &config, llvm::StringRef path);

/// The architecture a config.json's `model_type` stands for (`mistral` is `llama`), or the
/// model_type itself when it is not known.
std::string architectureOf(const llvm::json::Object &config);

} // namespace quern::import

#endif // QUERN_IMPORT_PARSERS_H
