//===- LowerKernels.cpp - Tile operations to vectors and loops ------------===//
//
// Dispatches every tile operation to its lowering, then expands what is left of math.
//
//===----------------------------------------------------------------------===//
#include "TileLowering.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "quern/Conversion/Passes.h"
#include "llvm/ADT/TypeSwitch.h"

namespace quern {
#define GEN_PASS_DEF_LOWERKERNELSPASS
#include "quern/Conversion/Passes.h.inc"
} // namespace quern

using namespace mlir;
using namespace quern;

namespace {
struct LowerKernels : quern::impl::LowerKernelsPassBase<LowerKernels> {
  using Base::Base;

  void runOnOperation() override {
    llvm::Expected<target::TargetInfo> info = target::lookup(target);
    if (!info) {
      getOperation().emitError(toString(info.takeError()));
      return signalPassFailure();
    }
    SmallVector<Operation *> tiles;
    for (auto function : getOperation().getOps<func::FuncOp>())
      function.walk([&](Operation *op) {
        if (isa_and_nonnull<kernel::KernelDialect>(op->getDialect()))
          tiles.push_back(op);
      });
    for (Operation *op : tiles)
      if (failed(lower(op, *info)))
        return signalPassFailure();

    RewritePatternSet patterns(&getContext());
    populatePolynomialApproximateTanhPattern(patterns);
    populatePolynomialApproximateErfPattern(patterns);
    SmallVector<Operation *> approximated;
    getOperation().walk([&](Operation *op) {
      if (isa<math::TanhOp, math::ErfOp>(op))
        approximated.push_back(op);
    });
    if (!approximated.empty())
      (void)applyOpPatternsGreedily(approximated, std::move(patterns));
  }

  LogicalResult lower(Operation *op, const target::TargetInfo &info) {
    ImplicitLocOpBuilder builder(op->getLoc(), op);
    TileEmitter emitter{builder, info};
    LogicalResult lowered =
        llvm::TypeSwitch<Operation *, LogicalResult>(op)
            .Case<kernel::TileRmsNormOp, kernel::TileLayerNormOp, kernel::TileRopeTableOp,
                  kernel::TileRopeOp, kernel::TileGatedActivationOp, kernel::TileSoftcapOp,
                  kernel::TileAddOp, kernel::TileScaleOp, kernel::TileScaleChannelsOp,
                  kernel::TileOutliersOp, kernel::TileTakeRowsOp,
                  kernel::TileTakeColumnsOp, kernel::TileHadamardOp, kernel::TileRouteOp,
                  kernel::TileCombineExpertsOp, kernel::TileStoreKvOp, kernel::TileAttentionOp>([&](auto tile) {
              lowerTile(emitter, tile);
              return success();
            })
            .Case<kernel::TileQuantizeOp, kernel::TileLinearOp, kernel::TileExpertLinearOp,
                  kernel::TileEmbeddingOp>([&](auto tile) { return lowerTile(emitter, tile); })
            .Default([](Operation *op) {
              return op->emitError("is not an operation of a kernel function");
            });
    if (failed(lowered))
      return failure();
    op->erase();
    return success();
  }
};
} // namespace
