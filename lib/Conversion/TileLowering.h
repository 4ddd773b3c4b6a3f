//===- TileLowering.h - One function per tile operation ---------*- C++ -*-===//
//
// Each emits the operation's code before it; LowerKernels.cpp erases the operation.
// Private to lib/Conversion.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_CONVERSION_TILELOWERING_H
#define QUERN_LIB_CONVERSION_TILELOWERING_H

#include "quern/Conversion/TileEmitter.h"
#include "quern/Dialect/Kernel/IR/Kernel.h"

namespace quern {

// LowerNorms.cpp
void lowerTile(TileEmitter &e, kernel::TileRmsNormOp op);
void lowerTile(TileEmitter &e, kernel::TileLayerNormOp op);

// LowerRope.cpp
void lowerTile(TileEmitter &e, kernel::TileRopeTableOp op);
void lowerTile(TileEmitter &e, kernel::TileRopeOp op);

// LowerElementwise.cpp
void lowerTile(TileEmitter &e, kernel::TileGatedActivationOp op);
void lowerTile(TileEmitter &e, kernel::TileSoftcapOp op);
void lowerTile(TileEmitter &e, kernel::TileAddOp op);
void lowerTile(TileEmitter &e, kernel::TileScaleOp op);
void lowerTile(TileEmitter &e, kernel::TileScaleChannelsOp op);
void lowerTile(TileEmitter &e, kernel::TileOutliersOp op);
void lowerTile(TileEmitter &e, kernel::TileHadamardOp op);
void lowerTile(TileEmitter &e, kernel::TileTakeRowsOp op);
void lowerTile(TileEmitter &e, kernel::TileTakeColumnsOp op);

// LowerExperts.cpp
void lowerTile(TileEmitter &e, kernel::TileRouteOp op);
void lowerTile(TileEmitter &e, kernel::TileCombineExpertsOp op);

// LowerStoreKv.cpp, LowerAttention.cpp
void lowerTile(TileEmitter &e, kernel::TileStoreKvOp op);
void lowerTile(TileEmitter &e, kernel::TileAttentionOp op);

// LowerProducts.cpp
llvm::LogicalResult lowerTile(TileEmitter &e, kernel::TileQuantizeOp op);
llvm::LogicalResult lowerTile(TileEmitter &e, kernel::TileLinearOp op);
llvm::LogicalResult lowerTile(TileEmitter &e, kernel::TileExpertLinearOp op);
llvm::LogicalResult lowerTile(TileEmitter &e, kernel::TileEmbeddingOp op);

/// Elements of a buffer's last dimension.
inline int64_t rowLength(mlir::Value buffer) {
  return llvm::cast<mlir::MemRefType>(buffer.getType()).getShape().back();
}

} // namespace quern

#endif // QUERN_LIB_CONVERSION_TILELOWERING_H
