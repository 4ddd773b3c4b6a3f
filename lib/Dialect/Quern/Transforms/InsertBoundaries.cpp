//===- InsertBoundaries.cpp - Mark where a program can be entered ---------===//
//
// See Passes.td. One walk that counts, between any two operations, the values still to be read.
//
//===----------------------------------------------------------------------===//
#include "quern/Dialect/Quern/IR/QuernOps.h"
#include "quern/Dialect/Quern/Transforms/Passes.h"
#include "llvm/ADT/SetVector.h"

namespace quern {
#define GEN_PASS_DEF_INSERTBOUNDARIESPASS
#include "quern/Dialect/Quern/Transforms/Passes.h.inc"
} // namespace quern

using namespace mlir;
using namespace quern;

namespace {
struct InsertBoundaries : quern::impl::InsertBoundariesPassBase<InsertBoundaries> {
  using Base::Base;

  void runOnOperation() override {
    auto forward = getOperation().lookupSymbol<func::FuncOp>("forward");
    if (!forward || !forward.getBody().hasOneBlock())
      return;
    Block &block = forward.getBody().front();
    int64_t index = 0;
    RankedTensorType stream; // what the embedding makes
    bool worked = false;     // since the last boundary
    llvm::SmallSetVector<Value, 8> live;
    for (Operation &op : llvm::make_early_inc_range(block)) {
      if (op.hasTrait<OpTrait::IsTerminator>() || isa<UseOp>(op))
        continue;
      worked |= isa<EmbeddingOp, LinearOp, ExpertLinearOp>(op);
      for (Value result : op.getResults())
        if (!isa<KvCacheType>(result.getType()))
          live.insert(result);
      live.remove_if([&](Value value) {
        return llvm::none_of(value.getUsers(), [&](Operation *user) {
          return user->getBlock() == &block && op.isBeforeInBlock(user);
        });
      });
      if (auto embedding = dyn_cast<EmbeddingOp>(op); embedding && !stream)
        stream = cast<RankedTensorType>(embedding.getResult().getType());
      if (!worked || live.size() != 1 || live.front().getType() != stream ||
          op.getNextNode()->hasTrait<OpTrait::IsTerminator>())
        continue;
      OpBuilder builder(op.getContext());
      builder.setInsertionPointAfter(&op);
      BoundaryOp::create(builder, op.getLoc(), live.front(), index++);
      ++inserted;
      worked = false;
    }
  }
};
} // namespace
