//===- InsertObservers.cpp - Show the inputs of products ------------------===//
//
// See Passes.td. What the same value feeds shares one observer, and so one Hessian, experts aside.
//
//===----------------------------------------------------------------------===//
#include "quern/Dialect/Quern/IR/QuernOps.h"
#include "quern/Dialect/Quern/Transforms/Passes.h"
#include "llvm/ADT/MapVector.h"

namespace quern {
#define GEN_PASS_DEF_INSERTOBSERVERSPASS
#include "quern/Dialect/Quern/Transforms/Passes.h.inc"
} // namespace quern

using namespace mlir;
using namespace quern;

namespace {
struct InsertObservers : quern::impl::InsertObserversPassBase<InsertObservers> {
  using Base::Base;

  void runOnOperation() override {
    int64_t index = 0;
    getOperation().walk([&](Block *block) {
      // By input, in the order of the first product that reads it. What experts read is a matter of
      // its own, and their ids, shown before it, say which rows each reads.
      llvm::MapVector<std::pair<Value, Value>, SmallVector<Operation *>> readers;
      for (Operation &op : *block) {
        if (isa<LinearOp>(op))
          readers[{op.getOperand(0), Value()}].push_back(&op);
        if (auto experts = dyn_cast<ExpertLinearOp>(op)) {
          readers[{experts.getIds(), Value()}].push_back(&op);
          readers[{experts.getX(), experts.getIds()}].push_back(&op);
        }
      }
      for (auto &[input, products] : readers)
        insert(input.first, products, index++);
    });
  }

  void insert(Value input, ArrayRef<Operation *> products, int64_t index) {
    SymbolTable symbols(getOperation());
    SmallVector<StringRef> names;
    for (Operation *product : products) {
      Value weight = cast<WeightedOpInterface>(product).getWeightOperand().get();
      auto use = weight.getDefiningOp<UseOp>();
      if (!use)
        continue;
      // A part of a fused matrix stands for the whole.
      auto stored = symbols.lookup<WeightOp>(use.getWeight());
      StringRef name = stored && stored.isView() ? *stored.getSource() : use.getWeight();
      if (!llvm::is_contained(names, name))
        names.push_back(name);
    }
    OpBuilder builder(products.front());
    ObserveOp::create(builder, products.front()->getLoc(), input, index,
                      builder.getStrArrayAttr(names));
    ++inserted;
  }
};
} // namespace
