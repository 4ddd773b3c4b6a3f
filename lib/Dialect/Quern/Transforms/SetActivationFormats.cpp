//===- SetActivationFormats.cpp - How activations enter products ----------===//
//
// See Passes.td.
//
//===----------------------------------------------------------------------===//
#include "quern/Dialect/Quern/IR/QuernOps.h"
#include "quern/Dialect/Quern/Transforms/Passes.h"

namespace quern {
#define GEN_PASS_DEF_SETACTIVATIONFORMATSPASS
#include "quern/Dialect/Quern/Transforms/Passes.h.inc"
} // namespace quern

using namespace mlir;
using namespace quern;

namespace {

class SetActivationFormatsPass
    : public quern::impl::SetActivationFormatsPassBase<SetActivationFormatsPass> {
public:
  using SetActivationFormatsPassBase::SetActivationFormatsPassBase;

  void runOnOperation() override {
    getOperation()->walk([&](WeightedOpInterface op) {
      auto type = cast<RankedTensorType>(op.getWeightOperand().get().getType());
      ActivationFormat chosen = getFormat(type).isPlain() ? plain : coded;
      if (op.getActivations() == chosen)
        return;
      op.setActivations(chosen);
      ++changed;
    });
  }
};

} // namespace
