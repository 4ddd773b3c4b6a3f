//===- HoistTakeRows.cpp - Compute only the rows that are asked for -------===//
//
// See Passes.td.
//
//===----------------------------------------------------------------------===//
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "quern/Dialect/Quern/IR/QuernOps.h"
#include "quern/Dialect/Quern/Transforms/Passes.h"
#include "llvm/ADT/TypeSwitch.h"

namespace quern {
#define GEN_PASS_DEF_HOISTTAKEROWSPASS
#include "quern/Dialect/Quern/Transforms/Passes.h.inc"
} // namespace quern

using namespace mlir;
using namespace quern;

/// The operands of which row t alone makes row t of the only result; empty for an op
/// that does not work row by row.
static SmallVector<OpOperand *, 2> rowOperands(Operation *op) {
  using Operands = SmallVector<OpOperand *, 2>;
  return TypeSwitch<Operation *, Operands>(op)
      .Case<LinearOp, RMSNormOp, LayerNormOp, ScaleOp, ScaleChannelsOp, HadamardOp, SoftcapOp>(
          [](auto op) { return Operands{&op.getXMutable()}; })
      .Case([](GatedActivationOp op) { return Operands{&op.getGateMutable(), &op.getUpMutable()}; })
      .Case([](AddOp op) { return Operands{&op.getLhsMutable(), &op.getRhsMutable()}; })
      .Default(Operands());
}

namespace {

/// take_rows(op(x)) -> op(take_rows(x)), where no other row of op(x) is used.
struct HoistAboveRowWise : public OpRewritePattern<TakeRowsOp> {
  HoistAboveRowWise(MLIRContext *context, Pass::Statistic &moved)
      : OpRewritePattern(context), moved(moved) {}

  LogicalResult matchAndRewrite(TakeRowsOp take, PatternRewriter &rewriter) const override {
    Operation *op = take.getX().getDefiningOp();
    if (!op)
      return failure();
    SmallVector<OpOperand *, 2> operands = rowOperands(op);
    if (operands.empty())
      return failure();
    auto takesSameRows = [&](Operation *user) {
      auto other = dyn_cast<TakeRowsOp>(user);
      return other && other.getX() == take.getX() && other.getIndices() == take.getIndices();
    };
    if (!llvm::all_of(take.getX().getUsers(), takesSameRows))
      return failure();
    SmallVector<Operation *> takes(take.getX().getUsers());

    rewriter.setInsertionPoint(op);
    // The indices of a function's outputs are its argument, which is everywhere in reach.
    if (Operation *indices = take.getIndices().getDefiningOp();
        indices && !indices->isBeforeInBlock(op))
      return failure();
    IRMapping mapping;
    for (OpOperand *operand : operands)
      if (!mapping.contains(operand->get()))
        mapping.map(operand->get(),
                    TakeRowsOp::create(rewriter, take.getLoc(), operand->get(), take.getIndices()));
    Operation *fewer = rewriter.clone(*op, mapping);
    fewer->getResult(0).setType(take.getType());
    for (Operation *same : takes)
      rewriter.replaceOp(same, fewer->getResult(0));
    rewriter.eraseOp(op);
    ++moved;
    return success();
  }

  Pass::Statistic &moved;
};

class HoistTakeRowsPass : public quern::impl::HoistTakeRowsPassBase<HoistTakeRowsPass> {
  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    patterns.add<HoistAboveRowWise>(&getContext(), moved);
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};

} // namespace
