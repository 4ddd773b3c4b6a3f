//===- RotateStream.cpp - Rotation of the residual stream -----------------===//
//
// See Passes.td. First everything that touches the stream is found, then it is rewritten.
//
//===----------------------------------------------------------------------===//
#include "ResidualStream.h"
#include "Rotation.h"
#include "mlir/IR/Builders.h"
#include "quern/Quantize/Migrate/FalliblePass.h"
#include "quern/Quantize/Migrate/Passes.h"
#include "llvm/ADT/SetVector.h"

namespace quern {
#define GEN_PASS_DEF_ROTATESTREAMPASS
#include "quern/Quantize/Migrate/Passes.h.inc"
} // namespace quern

using namespace mlir;
using namespace quern;
using namespace quern::migrate;
using llvm::Error;

namespace {
struct RotateStream : FalliblePass<quern::impl::RotateStreamPassBase<RotateStream>> {
  using Base::Base;

  Error run() override;
  Error rewriteWeights(ResidualStream &stream, const Rotation &rotation, WeightStore &store);
  int64_t count = 0; ///< matrices rotated
};
} // namespace

Error RotateStream::rewriteWeights(ResidualStream &stream, const Rotation &rotation,
                                   WeightStore &store) {
  SymbolTable &symbols = store.symbolTable();
  llvm::SetVector<Operation *> done;
  for (RMSNormOp norm : stream.norms) {
    WeightOp gainWeight = weightOf(norm.getGain(), symbols);
    auto values = store.load(gainWeight);
    if (!values)
      return values.takeError();
    double offset = norm.getUnitOffset() ? 1 : 0;
    std::vector<double> gain;
    for (float g : *values)
      gain.push_back(double(g) + offset);
    for (OpOperand &use : norm.getResult().getUses()) {
      WeightOp matrix = baseOf(
          weightOf(cast<WeightedOpInterface>(use.getOwner()).getWeightOperand().get(), symbols),
          symbols);
      if (done.insert(matrix))
        if (Error e = rotateColumns(store, matrix, rotation, gain))
          return e;
    }
    if (Error e = store.store(gainWeight, std::vector<float>(gain.size(), float(1 - offset))))
      return e;
  }
  for (Operation *weight : stream.writers)
    if (Error e = rotateRows(store, cast<WeightOp>(weight), rotation))
      return e;
  WeightOp table = baseOf(weightOf(stream.embedding.getTable(), symbols), symbols);
  Rotation signs = rotation;
  signs.block = 1; // H itself is computed online where the table is tied
  if (Error e = rotateColumns(store, table, stream.last ? signs : rotation, {}))
    return e;
  count = int64_t(done.size() + stream.writers.size() + 1);
  rotated = count;
  return Error::success();
}

Error RotateStream::run() {
  ModuleOp module = getOperation();
  if (!opsOnly)
    if (Error e = checkDataFolder(data))
      return e;
  if (block < 2 || block > 4096)
    return llvm::createStringError("block must lie in [2, 4096]");
  ResidualStream stream = findResidualStream(module);
  if (stream.obstacle) {
    stream.obstacle->emitRemark() << "the residual stream is not rotated: " << stream.reason;
    leaveCounts(module, {{"rotated", 0}, {"refused", 1}});
    return Error::success();
  }
  int64_t width = cast<RankedTensorType>(stream.embedding.getType()).getDimSize(1);
  Rotation rotation = Rotation::get(width, blockFor(width, block), seed);
  WeightStore store(module, data);
  if (!opsOnly)
    if (Error e = rewriteWeights(stream, rotation, store))
      return e;
  if (stream.last) {
    OpBuilder builder(module.getContext());
    auto size = builder.getI64IntegerAttr(rotation.block);
    builder.setInsertionPointAfter(stream.embedding);
    Value x = stream.embedding.getResult();
    auto into = HadamardOp::create(builder, stream.embedding.getLoc(), x, size);
    x.replaceAllUsesExcept(into.getResult(), into);
    builder.setInsertionPoint(stream.last);
    auto back = HadamardOp::create(builder, stream.last.getLoc(), stream.last.getX(), size);
    stream.last.getXMutable().set(back.getResult());
  }
  leaveCounts(module, {{"rotated", count}, {"refused", 0}});
  return Error::success();
}
