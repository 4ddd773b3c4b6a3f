//===- InsertBarriers.cpp - Separate launches that depend on each other ---===//
//
// See Passes.td. Hazards are found between all launches since the last barrier.
//
//===----------------------------------------------------------------------===//
#include "quern/Conversion/Passes.h"
#include "quern/Dialect/Kernel/IR/Kernel.h"
#include <utility>

namespace quern {
#define GEN_PASS_DEF_INSERTBARRIERSPASS
#include "quern/Conversion/Passes.h.inc"
} // namespace quern

using namespace mlir;
using namespace quern;
using namespace quern::kernel;

/// Whether two operands of launches name the same memory.
static bool sameMemory(Value a, Value b) {
  if (a == b)
    return true;
  Operation *x = a.getDefiningOp(), *y = b.getDefiningOp();
  if (auto first = dyn_cast<StepArrayOp>(x))
    if (auto second = dyn_cast<StepArrayOp>(y))
      return first.getArray() == second.getArray();
  if (auto first = dyn_cast<CacheOp>(x))
    if (auto second = dyn_cast<CacheOp>(y))
      return first.getByteOffset() == second.getByteOffset();
  return false;
}

static bool sameUnits(Value a, Value b) {
  if (a == b)
    return true;
  auto x = a.getDefiningOp<UnitsOp>(), y = b.getDefiningOp<UnitsOp>();
  return x && y && x.getCount() == y.getCount() && x.getBlock() == y.getBlock() &&
         x.getScale() == y.getScale();
}

static bool writes(Access access) {
  return access == Access::WritePart || access == Access::UpdatePart;
}

/// Whether threads may run the two launches without waiting for each other.
static bool independent(LaunchOp first, LaunchOp second, SymbolTable &symbols) {
  bool samePartition = first.getDomain() == second.getDomain() && !first.getReplicated() &&
                       !second.getReplicated() && sameUnits(first.getUnits(), second.getUnits());
  for (auto [i, a] : llvm::enumerate(first.getBuffers()))
    for (auto [j, b] : llvm::enumerate(second.getBuffers())) {
      auto buffer = a.getDefiningOp<BufferOp>();
      if ((buffer && buffer.getIsPrivate()) || !sameMemory(a, b))
        continue;
      // An argument without a declared access may be written anywhere.
      std::optional<Access> x = first.accessOf(i, symbols), y = second.accessOf(j, symbols);
      if (x && y && !writes(*x) && !writes(*y))
        continue;
      if (x && y && samePartition && *x != Access::Read && *y != Access::Read)
        continue;
      return false;
    }
  return true;
}

namespace {
struct InsertBarriers : quern::impl::InsertBarriersPassBase<InsertBarriers> {
  using Base::Base;

  void runOnOperation() override {
    SymbolTable symbols(getOperation());
    for (auto schedule : getOperation().getOps<ScheduleOp>()) {
      SmallVector<LaunchOp> open; // since the last barrier
      bool observed = false;      // since then
      for (Operation &op : schedule.getBody().front()) {
        if (isa<BarrierOp>(op))
          open.clear();
        // The caller may read all of the buffer, in every thread, or write it.
        if (isa<kernel::ObserveOp, kernel::BoundaryOp>(op)) {
          separate(&op);
          open.clear();
          observed = true;
          continue;
        }
        auto launch = dyn_cast<LaunchOp>(op);
        if (!launch)
          continue;
        if (failed(checkReplicated(launch, symbols)))
          return signalPassFailure();
        if (std::exchange(observed, false))
          separate(launch);
        if (!llvm::all_of(open,
                          [&](LaunchOp before) { return independent(before, launch, symbols); })) {
          separate(launch);
          open.clear();
        }
        open.push_back(launch);
      }
    }
  }

  void separate(Operation *op) {
    OpBuilder builder(op);
    BarrierOp::create(builder, op->getLoc());
    ++barriers;
  }

  /// All threads would write the same shared memory at once.
  LogicalResult checkReplicated(LaunchOp launch, SymbolTable &symbols) {
    if (!launch.getReplicated())
      return success();
    for (auto [i, value] : llvm::enumerate(launch.getBuffers())) {
      auto buffer = value.getDefiningOp<BufferOp>();
      std::optional<Access> access = launch.accessOf(i, symbols);
      if ((!access || writes(*access)) && !(buffer && buffer.getIsPrivate()))
        return launch.emitOpError()
               << "is replicated, but writes its buffer " << i << ", which is not private";
    }
    return success();
  }
};
} // namespace
