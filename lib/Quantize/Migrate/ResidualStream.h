//===- ResidualStream.h - All that touches the residual stream --*- C++ -*-===//
//
// What has to change together when the basis of the stream does. Private to the folder.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_MIGRATE_RESIDUALSTREAM_H
#define QUERN_LIB_QUANTIZE_MIGRATE_RESIDUALSTREAM_H

#include "quern/Quantize/Migrate/ScaleSites.h"
#include "llvm/ADT/SetVector.h"

namespace quern::migrate {

/// Everything that touches the residual stream; or the op that keeps it from being rewritten, and why.
struct ResidualStream {
  EmbeddingOp embedding;
  llvm::SetVector<mlir::Value> values;
  llvm::SmallVector<RMSNormOp> norms;         ///< readers; the one in front of a tied head is `last`
  RMSNormOp last;                       ///< its products read the embedding's table
  llvm::SetVector<mlir::Operation *> writers; ///< matrices and biases that add to the stream
  mlir::Operation *obstacle = nullptr;
  std::string reason;
};

ResidualStream findResidualStream(mlir::ModuleOp module);

} // namespace quern::migrate

#endif // QUERN_LIB_QUANTIZE_MIGRATE_RESIDUALSTREAM_H
