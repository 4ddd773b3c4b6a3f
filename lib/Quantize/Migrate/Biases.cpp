//===- Biases.cpp - Constants that products add ---------------------------===//
//
// See Biases.h.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Migrate/Biases.h"
#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace quern;
using llvm::Error;
using llvm::Expected;

Expected<bool> quern::migrate::addToBias(LinearOp linear, ArrayRef<double> rows,
                                         const WeightReaders &readers, WeightStore &store) {
  SymbolTable &symbols = store.symbolTable();
  if (WeightOp bias = weightOf(linear.getBias(), symbols)) {
    if (bias.isView() || !llvm::hasSingleElement(readers.readers(bias))) {
      linear.emitRemark() << "the bias @" << bias.getSymName()
                          << " is not corrected: others share it";
      return false;
    }
    Expected<std::vector<float>> old = store.load(bias);
    if (!old)
      return old.takeError();
    for (auto [value, change] : llvm::zip_equal(*old, rows))
      value = float(double(value) + change);
    if (Error e = store.store(bias, *old))
      return std::move(e);
    return true;
  }
  StringRef stem = weightOf(linear.getWeight(), symbols).getSymName();
  stem.consume_back(".weight");
  std::vector<float> made(rows.begin(), rows.end());
  Expected<WeightOp> created = store.create((stem + ".bias").str(), made);
  if (!created)
    return created.takeError();
  OpBuilder builder(linear);
  linear.getBiasMutable().assign(UseOp::create(builder, linear.getLoc(), created->getTensorType(),
                                               FlatSymbolRefAttr::get(*created))
                                     .getResult());
  return true;
}
