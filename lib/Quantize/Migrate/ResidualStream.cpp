//===- ResidualStream.cpp - All that touches the residual stream ----------===//
//
// From the embedding on, through whatever adds to the stream or reads it.
//
//===----------------------------------------------------------------------===//
#include "ResidualStream.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace quern;
using namespace quern::migrate;

namespace {
class Finder {
public:
  explicit Finder(ModuleOp module) : module(module), symbols(module), weights(module) {}
  ResidualStream find();

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
  ResidualStream stream;
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

ResidualStream Finder::find() {
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

ResidualStream quern::migrate::findResidualStream(ModuleOp module) { return Finder(module).find(); }
