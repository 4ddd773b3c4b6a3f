//===- RotateInputs.cpp - Online Hadamard rotation ------------------------===//
//
// See Passes.td. (x H)(W H)ᵀ = x Wᵀ, because H is its own inverse.
//
//===----------------------------------------------------------------------===//
#include "Rotation.h"
#include "mlir/IR/Builders.h"
#include "quern/Quantize/Migrate/FalliblePass.h"
#include "quern/Quantize/Migrate/Passes.h"
#include "llvm/ADT/MapVector.h"

namespace quern {
#define GEN_PASS_DEF_ROTATEINPUTSPASS
#include "quern/Quantize/Migrate/Passes.h.inc"
} // namespace quern

using namespace mlir;
using namespace quern;
using namespace quern::migrate;
using llvm::Error;

namespace {
struct RotateInputs : FalliblePass<quern::impl::RotateInputsPassBase<RotateInputs>> {
  using Base::Base;

  Error run() override;
  /// The op that keeps the matrices that read x from being rotated.
  Operation *findObstacle(ArrayRef<WeightedOpInterface> products, Value x,
                          const WeightReaders &readers, SymbolTable &symbols);
};
} // namespace

Operation *RotateInputs::findObstacle(ArrayRef<WeightedOpInterface> products, Value x,
                                      const WeightReaders &readers, SymbolTable &symbols) {
  for (WeightedOpInterface product : products) {
    WeightOp weight = weightOf(product.getWeightOperand().get(), symbols);
    if (!weight)
      return product;
    for (OpOperand *reader : readers.readers(baseOf(weight, symbols))) {
      auto other = dyn_cast<WeightedOpInterface>(reader->getOwner());
      if (!other || &other.getWeightOperand() != reader || other.getInputOperand().get() != x)
        return reader->getOwner();
    }
  }
  return nullptr;
}

Error RotateInputs::run() {
  ModuleOp module = getOperation();
  if (!opsOnly)
    if (Error e = checkDataFolder(data))
      return e;
  if (block < 2 || block > 4096)
    return llvm::createStringError("block must lie in [2, 4096]");
  WeightStore store(module, data);
  WeightReaders readers(module);
  llvm::MapVector<Value, SmallVector<WeightedOpInterface>> inputs;
  module.walk([&](WeightedOpInterface op) {
    if (op.getInputOperand().get().getDefiningOp<GatedActivationOp>())
      inputs[op.getInputOperand().get()].push_back(op);
  });
  int64_t count = 0, obstacles = 0;
  for (auto &[x, products] : inputs) {
    if (Operation *obstacle = findObstacle(products, x, readers, store.symbolTable())) {
      products.front()->emitRemark()
          << "what enters " << describe(products.front())
          << " is not rotated: " << describe(obstacle) << " reads its matrix, too";
      ++obstacles;
      continue;
    }
    int64_t width = cast<RankedTensorType>(x.getType()).getShape().back();
    Rotation rotation = Rotation::get(width, blockFor(width, block), /*seed=*/0);
    if (rotation.block < 2) {
      products.front()->emitRemark()
          << "what enters " << describe(products.front())
          << " is not rotated: no known Hadamard matrix fits its " << width << " channels";
      ++obstacles;
      continue;
    }
    OpBuilder builder(products.front());
    auto hadamard = HadamardOp::create(builder, products.front()->getLoc(), x,
                                       builder.getI64IntegerAttr(rotation.block));
    SmallVector<WeightOp> done;
    for (WeightedOpInterface product : products) {
      product.getInputOperand().set(hadamard.getResult());
      WeightOp base = baseOf(weightOf(product.getWeightOperand().get(), store.symbolTable()),
                             store.symbolTable());
      if (opsOnly || llvm::is_contained(done, base))
        continue;
      done.push_back(base);
      if (Error e = rotateColumns(store, base, rotation, {}))
        return e;
    }
    ++count;
  }
  rotated = count;
  refused = obstacles;
  leaveCounts(module, {{"rotated", count}, {"refused", obstacles}});
  return Error::success();
}
