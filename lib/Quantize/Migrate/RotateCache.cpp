//===- RotateCache.cpp - Rotation of cached keys and values ---------------===//
//
// See Passes.td. (q H)(k H)ᵀ = q kᵀ, and a sum of rows of V H is that of V, times H.
//
//===----------------------------------------------------------------------===//
#include "Rotation.h"
#include "mlir/IR/Builders.h"
#include "quern/Quantize/Migrate/Passes.h"

namespace quern {
#define GEN_PASS_DEF_ROTATECACHEPASS
#include "quern/Quantize/Migrate/Passes.h.inc"
} // namespace quern

using namespace mlir;
using namespace quern;
using namespace quern::migrate;

namespace {
struct RotateCache : quern::impl::RotateCachePassBase<RotateCache> {
  using Base::Base;

  void runOnOperation() override {
    int64_t count = 0, odd = 0;
    getOperation().walk([&](AttentionOp op) {
      int64_t dim = op.getCache().getType().getHeadDim(), block = blockFor(dim, dim);
      if (block < 2) {
        op.emitRemark() << "the cache is not rotated: no known Hadamard matrix fits heads of "
                        << dim;
        ++odd;
        return;
      }
      OpBuilder builder(op);
      auto rotate = [&](Value x) -> Value {
        return HadamardOp::create(builder, op.getLoc(), x, builder.getI64IntegerAttr(block));
      };
      for (OpOperand *operand : {&op.getQMutable(), &op.getKMutable(), &op.getVMutable()})
        operand->set(rotate(operand->get()));
      builder.setInsertionPointAfter(op);
      Value back = rotate(op.getOutput());
      op.getOutput().replaceAllUsesExcept(back, back.getDefiningOp());
      ++count;
    });
    rotated = count;
    refused = odd;
    leaveCounts(getOperation(), {{"rotated", count}, {"refused", odd}});
  }
};
} // namespace
