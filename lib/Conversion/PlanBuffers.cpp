//===- PlanBuffers.cpp - Place the buffers of a schedule ------------------===//
//
// See Passes.td. Time is counted in barriers: between two of them threads are at
// different launches, so lives that meet in one such stretch overlap.
//
//===----------------------------------------------------------------------===//
#include "quern/Conversion/Passes.h"
#include "quern/Dialect/Kernel/IR/Kernel.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/Support/MathExtras.h"

namespace quern {
#define GEN_PASS_DEF_PLANBUFFERSPASS
#include "quern/Conversion/Passes.h.inc"
} // namespace quern

using namespace mlir;
using namespace quern;
using namespace quern::kernel;

namespace {
struct Life {
  BufferOp buffer;
  int64_t index = 0, bytes = 0, first = -1, last = -1, offset = 0;
};

struct PlanBuffers : quern::impl::PlanBuffersPassBase<PlanBuffers> {
  using Base::Base;

  void runOnOperation() override {
    for (auto schedule : getOperation().getOps<ScheduleOp>()) {
      SmallVector<Life> shared, own;
      for (Life &life : lives(schedule))
        (life.buffer.getIsPrivate() ? own : shared).push_back(life);
      schedule.setScratchBytes(place(shared));
      schedule.setPrivateBytes(place(own));
      bytes += *schedule.getScratchBytes();
    }
  }

  static SmallVector<Life> lives(ScheduleOp schedule) {
    llvm::MapVector<Operation *, Life> found;
    int64_t time = 0;
    for (Operation &op : schedule.getBody().front()) {
      if (isa<BarrierOp>(op))
        ++time;
      if (auto buffer = dyn_cast<BufferOp>(op)) {
        auto type = cast<MemRefType>(buffer.getResult().getType());
        int64_t bits = type.getNumElements() * type.getElementTypeBitWidth();
        found.insert({&op,
                      {buffer, int64_t(found.size()),
                       int64_t(llvm::alignTo(llvm::divideCeil(bits, 8), 64))}});
      }
      for (Value operand : op.getOperands())
        if (auto it = found.find(operand.getDefiningOp()); it != found.end()) {
          Life &life = it->second;
          life.first = life.first < 0 ? time : life.first;
          life.last = time;
        }
    }
    SmallVector<Life> result;
    for (auto &entry : found)
      result.push_back(entry.second);
    return result;
  }

  /// Sets offsets; returns the bytes needed.
  static int64_t place(MutableArrayRef<Life> all) {
    llvm::sort(all, [](const Life &a, const Life &b) {
      return std::tie(b.bytes, a.first, a.index) < std::tie(a.bytes, b.first, b.index);
    });
    int64_t end = 0;
    for (auto [i, life] : llvm::enumerate(all)) {
      // The lowest gap among the placed buffers that live at the same time.
      SmallVector<const Life *> rivals;
      for (const Life &other : all.take_front(i))
        if (other.first <= life.last && life.first <= other.last)
          rivals.push_back(&other);
      llvm::sort(rivals, [](auto *a, auto *b) { return a->offset < b->offset; });
      life.offset = 0;
      for (const Life *rival : rivals) {
        if (life.offset + life.bytes <= rival->offset)
          break;
        life.offset = std::max(life.offset, rival->offset + rival->bytes);
      }
      end = std::max(end, life.offset + life.bytes);
      life.buffer.setOffset(life.offset);
    }
    return end;
  }
};
} // namespace
