//===- RotateStream.cpp - Rotation of the residual stream -----------------===//
//
// See Passes.td. First everything that touches the stream is found, then it is rewritten.
//
//===----------------------------------------------------------------------===//
#include "Rotation.h"
#include "mlir/IR/Builders.h"
#include "quern/Quantize/Migrate/Passes.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/FileSystem.h"

namespace quern {
#define GEN_PASS_DEF_ROTATESTREAMPASS
#include "quern/Quantize/Migrate/Passes.h.inc"
} // namespace quern

using namespace mlir;
using namespace quern;
using namespace quern::migrate;
using llvm::Error;

namespace {
/// Everything that touches the residual stream.
struct Stream {
  EmbeddingOp embedding;
  llvm::SetVector<Value> values;
  SmallVector<RMSNormOp> norms;         ///< readers; the one in front of a tied head is `last`
  RMSNormOp last;                       ///< its products read the embedding's table
  llvm::SetVector<Operation *> writers; ///< matrices and biases that add to the stream
  Operation *obstacle = nullptr;
  std::string reason;
};

class Finder {
public:
  explicit Finder(ModuleOp module) : module(module), symbols(module), weights(module) {}
  Stream find();

private:
  bool refuse(Operation *op, const Twine &reason) {
    stream.obstacle = op;
    stream.reason = (describe(op) + reason).str();
    return false;
  }
  WeightOp base(Value stored) { return baseOf(weightOf(stored, symbols), symbols); }
  bool visitUse(OpOperand &use);
  bool visitDefinition(Value value);
  bool visitNorm(RMSNormOp norm);
  bool addWriter(Operation *product, Value stored);

  ModuleOp module;
  SymbolTable symbols;
  WeightReaders weights;
  Stream stream;
};

struct RotateStream : quern::impl::RotateStreamPassBase<RotateStream> {
  using Base::Base;

  void runOnOperation() override {
    if (Error error = rotate()) {
      getOperation()->emitError(llvm::toString(std::move(error)));
      signalPassFailure();
    }
  }
  Error rotate();
  Error rewriteWeights(Stream &stream, const Rotation &rotation, WeightStore &store);
  int64_t count = 0; ///< matrices rotated
};
} // namespace

bool Finder::visitNorm(RMSNormOp norm) {
  if (cast<RankedTensorType>(norm.getGain().getType()).getDimSize(0) !=
      cast<RankedTensorType>(norm.getX().getType()).getDimSize(1))
    return refuse(norm, " has one gain for several heads");
  bool tied = false;
  for (OpOperand &use : norm.getResult().getUses()) {
    auto product = dyn_cast<WeightedOpInterface>(use.getOwner());
    if (!product || &product.getInputOperand() != &use)
      return refuse(use.getOwner(), " reads the result of a norm, too");
    WeightOp matrix = base(product.getWeightOperand().get());
    if (!matrix)
      return refuse(product, " reads a tensor that is no stored weight");
    tied |= matrix == base(stream.embedding.getTable());
    for (OpOperand *reader : weights.readers(matrix)) {
      auto other = dyn_cast<WeightedOpInterface>(reader->getOwner());
      if (reader->getOwner() != stream.embedding &&
          (!other || other.getInputOperand().get() != norm.getResult()))
        return refuse(reader->getOwner(), (" reads @" + matrix.getSymName() + ", too").str());
    }
  }
  for (OpOperand *reader : weights.readers(base(norm.getGain())))
    if (reader->getOwner() != norm)
      return refuse(reader->getOwner(), " shares its gain with another norm");
  if (tied && stream.last)
    return refuse(norm, " is a second norm in front of the tied table");
  if (tied)
    stream.last = norm;
  else
    stream.norms.push_back(norm);
  return true;
}

/// One use of a value of the stream.
bool Finder::visitUse(OpOperand &use) {
  return llvm::TypeSwitch<Operation *, bool>(use.getOwner())
      .Case<AddOp, ScaleOp, TakeRowsOp>([&](auto op) {
        stream.values.insert(op->getResult(0));
        return true;
      })
      .Case([&](RMSNormOp norm) { return visitNorm(norm); })
      .Default([&](Operation *op) { return refuse(op, " reads the residual stream"); });
}

bool Finder::addWriter(Operation *product, Value stored) {
  WeightOp weight = weightOf(stored, symbols);
  if (!weight || weight.isView())
    return refuse(product, " adds to the residual stream with a matrix that is not its own");
  for (OpOperand *reader : weights.readers(weight))
    if (reader->getOwner() != product)
      return refuse(reader->getOwner(), (" reads @" + weight.getSymName() + ", too").str());
  stream.writers.insert(weight);
  return true;
}

/// What makes a value of the stream.
bool Finder::visitDefinition(Value value) {
  Operation *op = value.getDefiningOp();
  if (!op)
    return refuse(module, " gives the residual stream as an argument");
  return llvm::TypeSwitch<Operation *, bool>(op)
      .Case([&](EmbeddingOp embedding) {
        return embedding == stream.embedding || refuse(op, " is a second embedding");
      })
      .Case([&](AddOp add) {
        stream.values.insert(add.getLhs());
        stream.values.insert(add.getRhs());
        return true;
      })
      .Case<ScaleOp, TakeRowsOp>([&](auto unary) {
        stream.values.insert(unary.getX());
        return true;
      })
      .Case([&](LinearOp linear) {
        return addWriter(linear, linear.getWeight()) &&
               (!linear.getBias() || addWriter(linear, linear.getBias()));
      })
      .Case([&](CombineExpertsOp combine) {
        auto experts = combine.getX().getDefiningOp<ExpertLinearOp>();
        if (!experts || !combine.getX().hasOneUse())
          return refuse(combine, " adds to the residual stream");
        return addWriter(experts, experts.getWeight());
      })
      .Default([&](Operation *other) { return refuse(other, " adds to the residual stream"); });
}

Stream Finder::find() {
  module.walk([&](EmbeddingOp op) {
    if (stream.embedding)
      refuse(op, " is a second embedding");
    stream.embedding = op;
  });
  if (stream.obstacle)
    return stream;
  if (!stream.embedding) {
    refuse(module, " has no embedding");
    return stream;
  }
  stream.values.insert(stream.embedding.getResult());
  for (size_t i = 0; i < stream.values.size(); ++i) {
    Value value = stream.values[i];
    if (!visitDefinition(value))
      return stream;
    for (OpOperand &use : value.getUses())
      if (!visitUse(use))
        return stream;
  }
  return stream;
}

Error RotateStream::rewriteWeights(Stream &stream, const Rotation &rotation, WeightStore &store) {
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

Error RotateStream::rotate() {
  ModuleOp module = getOperation();
  if (!opsOnly && !llvm::sys::fs::is_directory(data))
    return llvm::createStringError(
        "the folder for changed weights (data=FOLDER) does not exist: '" + data + "'");
  if (block < 2 || block > 4096)
    return llvm::createStringError("block must lie in [2, 4096]");
  Stream stream = Finder(module).find();
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
