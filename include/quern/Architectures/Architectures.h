//===- Architectures.h - From model files to model-level IR -----*- C++ -*-===//
//
// Builds the graph of a model out of ordinary `quern` ops. Each architecture is one
// small file in lib/Architectures: see docs/AddingAnArchitecture.md.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_ARCHITECTURES_ARCHITECTURES_H
#define QUERN_ARCHITECTURES_ARCHITECTURES_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "quern/Dialect/Quern/IR/QuernTypes.h"
#include "quern/Import/ModelConfig.h"
#include "quern/Import/ModelFile.h"

namespace quern::architectures {

struct BuildOptions {
  /// Positions per sequence; 0 means the model's own.
  int64_t context = 0;
  CacheElement cache = CacheElement::F16;
  /// How activations enter products with coded weights; plain float weights take f32.
  ActivationFormat activations = ActivationFormat::Fast;
};

/// The names buildModel knows.
llvm::SmallVector<llvm::StringRef> knownArchitectures();

/// Builds the module of an opened model: its files, its weights (byte ranges only, no
/// data is read) and one function, `forward`. Errors: an unknown architecture (lists the
/// known ones); tensors that are missing, misshaped, or that the architecture does not
/// account for, each with its name, the shape expected and the shape found.
llvm::Expected<mlir::OwningOpRef<mlir::ModuleOp>> buildModel(mlir::MLIRContext &context,
                                                             const import::ModelFile &model,
                                                             const import::ModelConfig &config,
                                                             const BuildOptions &options = {});

/// Opens `path` (GGUF or a Hugging Face directory), reads its configuration and builds it.
llvm::Expected<mlir::OwningOpRef<mlir::ModuleOp>>
importModel(mlir::MLIRContext &context, llvm::StringRef path, const BuildOptions &options = {});

} // namespace quern::architectures

#endif // QUERN_ARCHITECTURES_ARCHITECTURES_H
