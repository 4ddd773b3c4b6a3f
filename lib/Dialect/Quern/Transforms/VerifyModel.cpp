//===- VerifyModel.cpp - Check that a module can be compiled --------------===//
//
// See Passes.td. What the lowering relies on, in one place.
//
//===----------------------------------------------------------------------===//
#include "quern/Dialect/Quern/IR/QuernOps.h"
#include "quern/Dialect/Quern/Transforms/Passes.h"

namespace quern {
#define GEN_PASS_DEF_VERIFYMODELPASS
#include "quern/Dialect/Quern/Transforms/Passes.h.inc"
} // namespace quern

using namespace mlir;
using namespace quern;

namespace {

/// forward(tokens, positions, sequences, outputs, cache)
enum Argument { Tokens, Positions, Sequences, Outputs, Cache, NumArguments };

class ModelVerifier {
public:
  explicit ModelVerifier(ModuleOp module) : module(module), symbols(module) {}

  LogicalResult verify() {
    auto functions = llvm::to_vector(module.getOps<func::FuncOp>());
    if (functions.size() != 1 || functions[0].getSymName() != "forward" ||
        functions[0].isExternal())
      return module.emitError("a model has one function, 'forward', with a body; found ")
             << functions.size() << (functions.size() == 1 ? " function, '" : " functions")
             << (functions.size() == 1 ? functions[0].getSymName() + "'" : "");
    forward = functions[0];
    if (failed(verifySignature()))
      return failure();
    cache = forward.getArgument(Cache);
    layersSeen.resize(cast<KvCacheType>(cache.getType()).getLayers());
    for (Operation &op : forward.getBody().front())
      if (failed(verifyOp(&op)))
        return failure();
    size_t missing = llvm::find(layersSeen, false) - layersSeen.begin();
    if (missing != layersSeen.size())
      return forward.emitError("the cache has ")
             << layersSeen.size() << " layers, but no attention is of layer " << missing;
    return success();
  }

private:
  LogicalResult verifySignature() {
    auto indices =
        RankedTensorType::get({ShapedType::kDynamic}, IntegerType::get(module.getContext(), 32));
    FunctionType type = forward.getFunctionType();
    bool matches = type.getNumInputs() == NumArguments && type.getNumResults() == 2 &&
                   llvm::all_of(type.getInputs().take_front(Cache),
                                [&](Type input) { return input == indices; }) &&
                   isa<KvCacheType>(type.getInput(Cache)) &&
                   type.getResult(1) == type.getInput(Cache);
    auto logits = matches ? dyn_cast<RankedTensorType>(type.getResult(0)) : RankedTensorType();
    if (!logits || logits.getRank() != 2 || !logits.isDynamicDim(0) || logits.isDynamicDim(1) ||
        !logits.getElementType().isF32())
      return forward.emitError("'forward' must take tokens, positions, sequences and outputs "
                               "(tensor<?xi32> each) and a cache, and return logits "
                               "(tensor<?xVxf32>) and the cache; found ")
             << type;
    if (!forward.getBody().hasOneBlock())
      return forward.emitError("'forward' must be a single block");
    return success();
  }

  LogicalResult verifyOp(Operation *op) {
    if (auto ret = dyn_cast<func::ReturnOp>(op)) {
      if (ret.getOperand(1) != cache)
        return op->emitOpError("must return the cache that the last attention made");
      return success();
    }
    if (!isa_and_nonnull<QuernDialect>(op->getDialect()))
      return op->emitOpError("is not model-level: a model holds 'quern' ops only");
    if (isa<QuantizeOp, DequantizeOp>(op))
      return op->emitOpError("must be folded into a weight before compilation");
    if (auto use = dyn_cast<UseOp>(op))
      return verifyHasData(use);
    if (failed(verifyStoredOperands(op)))
      return failure();
    if (auto embedding = dyn_cast<EmbeddingOp>(op))
      return verifyArgument(op, embedding.getTokens(), Tokens, "token ids");
    if (auto take = dyn_cast<TakeRowsOp>(op))
      return verifyArgument(op, take.getIndices(), Outputs, "output rows");
    if (auto rope = dyn_cast<RopeOp>(op))
      return verifyArgument(op, rope.getPositions(), Positions, "positions");
    if (auto attention = dyn_cast<AttentionOp>(op))
      return verifyAttention(attention);
    return success();
  }

  LogicalResult verifyHasData(UseOp use) {
    auto weight = symbols.lookup<WeightOp>(use.getWeight());
    if (weight.isView())
      weight = symbols.lookup<WeightOp>(*weight.getSource());
    auto from = weight->getAttrOfType<FlatSymbolRefAttr>(QuernDialect::kEncodedFromAttr);
    auto source = from ? symbols.lookup<WeightOp>(from.getValue()) : weight;
    if (!source || !source.getComponents())
      return use.emitOpError("@") << (source ? source.getSymName() : from.getValue())
                                  << " has no data: its components are unset";
    return success();
  }

  /// Operands that are not made by the model's ops must be stored ones.
  LogicalResult verifyStoredOperands(Operation *op) {
    auto check = [&](Value value, StringRef name) -> LogicalResult {
      if (!value || value.getDefiningOp<UseOp>())
        return success();
      return op->emitOpError() << name << " must be a quern.use";
    };
    if (auto weighted = dyn_cast<WeightedOpInterface>(op))
      if (failed(check(weighted.getWeightOperand().get(), "weight")))
        return failure();
    if (auto linear = dyn_cast<LinearOp>(op))
      return check(linear.getBias(), "bias");
    if (auto embedding = dyn_cast<EmbeddingOp>(op))
      return check(embedding.getTable(), "table");
    if (auto norm = dyn_cast<RMSNormOp>(op))
      return check(norm.getGain(), "gain");
    if (auto norm = dyn_cast<LayerNormOp>(op))
      return failure(failed(check(norm.getGain(), "gain")) ||
                     failed(check(norm.getBias(), "bias")));
    return success();
  }

  LogicalResult verifyArgument(Operation *op, Value value, Argument argument, StringRef name) {
    if (value == forward.getArgument(argument))
      return success();
    return op->emitOpError() << name << " must be argument " << int(argument) << " of 'forward'";
  }

  LogicalResult verifyAttention(AttentionOp attention) {
    if (failed(verifyArgument(attention, attention.getPositions(), Positions, "positions")) ||
        failed(verifyArgument(attention, attention.getSequences(), Sequences, "sequence slots")))
      return failure();
    if (attention.getCache() != cache)
      return attention.emitOpError("must take the cache that the attention before it made");
    cache = attention.getNewCache();
    if (layersSeen[attention.getLayer()])
      return attention.emitOpError("is the second of layer ") << attention.getLayer();
    layersSeen[attention.getLayer()] = true;
    return success();
  }

  ModuleOp module;
  SymbolTable symbols;
  func::FuncOp forward;
  Value cache; ///< as of the op being looked at
  SmallVector<bool> layersSeen;
};

class VerifyModelPass : public quern::impl::VerifyModelPassBase<VerifyModelPass> {
  void runOnOperation() override {
    if (failed(ModelVerifier(getOperation()).verify()))
      signalPassFailure();
    markAllAnalysesPreserved();
  }
};

} // namespace
