//===- Config.h - The two readers of hyper-parameters ------------*- C++ -*-===//
//
// Shared between Config.cpp and the readers for GGUF and Hugging Face.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_IMPORT_CONFIG_H
#define QUERN_LIB_IMPORT_CONFIG_H

#include "Fields.h"
#include "Rope.h"
#include "quern/Import/ModelConfig.h"

namespace quern::import {

llvm::Expected<ModelConfig> readConfigGGUF(const ModelFile &model);
llvm::Expected<ModelConfig> readConfigHuggingFace(const ModelFile &model);

/// An error that lists the known architectures unless `name` is one.
llvm::Error checkArchitecture(llvm::StringRef path, llvm::StringRef name);

/// n such that layer i is global exactly if (i + 1) % n == 0 (n = 0: none is); nothing if the
/// layers follow no such rule.
std::optional<int64_t> patternOf(const std::vector<bool> &local);

} // namespace quern::import

#endif
