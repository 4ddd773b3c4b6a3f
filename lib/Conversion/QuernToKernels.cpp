//===- QuernToKernels.cpp - Model level to kernels and schedules ----------===//
//
// Walks `forward` once for steps of one token and once for steps of many, and emits a
// launch for each operation.
//
//===----------------------------------------------------------------------===//
#include "ScheduleBuilder.h"
#include "quern/Conversion/Passes.h"

namespace quern {
#define GEN_PASS_DEF_QUERNTOKERNELSPASS
#include "quern/Conversion/Passes.h.inc"
} // namespace quern

using namespace mlir;
using namespace quern;

namespace {
struct QuernToKernels : quern::impl::QuernToKernelsPassBase<QuernToKernels> {
  using Base::Base;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto forward = module.lookupSymbol<func::FuncOp>("forward");
    if (!forward || forward.getNumArguments() != 5 || !forward.getBody().hasOneBlock()) {
      module.emitError("expects a function 'forward' of (tokens, positions, sequences, outputs, "
                       "cache), with one block");
      return signalPassFailure();
    }
    auto cache = dyn_cast<KvCacheType>(forward.getArgument(4).getType());
    if (!cache) {
      forward.emitError() << "expects a cache as its last argument, found "
                          << forward.getArgument(4).getType();
      return signalPassFailure();
    }
    llvm::Expected<target::TargetInfo> info = target::lookup(target);
    if (!info) {
      module.emitError(toString(info.takeError()));
      return signalPassFailure();
    }
    int64_t many = std::min<int64_t>(maxTokens, cache.getContextLength());
    KernelOutliner outliner(module);
    WeightTable table;
    if (failed(ScheduleBuilder(forward, outliner, table, *info, 1).run("step_one")))
      return signalPassFailure();
    if (many > 1 && failed(ScheduleBuilder(forward, outliner, table, *info, many).run("step")))
      return signalPassFailure();
    kernels = llvm::range_size(module.getOps<func::FuncOp>()) - 1;
    forward.erase();
    for (Operation &op : llvm::make_early_inc_range(*module.getBody()))
      if (isa<WeightOp, FileOp>(op))
        op.erase();
  }
};
} // namespace
