//===- Interpreter.cpp - Runs model-level IR ------------------------------===//
//
// A table from SSA values to arrays, and for each op a call of its semantics in Ops.h.
//
//===----------------------------------------------------------------------===//
#include "quern/Reference/Interpreter.h"
#include "mlir/IR/SymbolTable.h"
#include "quern/Dialect/Quern/IR/QuernOps.h"
#include "quern/Format/CodeMeaning.h"
#include "quern/Format/Encode.h"
#include "quern/Reference/Attention.h"
#include "quern/Reference/Ops.h"
#include "quern/Reference/Weights.h"
#include "llvm/ADT/TypeSwitch.h"
#include <numeric>

using namespace mlir;
using namespace quern;
using namespace quern::reference;
using llvm::Error;
using llvm::Expected;
using ActivationKind = quern::reference::ActivationFormat;
using Floats = std::span<const float>;
using Ints = std::span<const int32_t>;

namespace {
/// One cache value: a KvCache for each layer.
using Cache = std::vector<KvCache>;

/// What an SSA value holds: one of the three, and a column split its order of columns besides. Its
/// shape is in its type, except for the number of tokens. Weights share storage with every value
/// that uses them.
struct RuntimeValue {
  std::shared_ptr<const std::vector<float>> storage;
  Floats floats;
  std::shared_ptr<const std::vector<int32_t>> ints;
  std::shared_ptr<Cache> cache;
};
} // namespace

static Error opError(Operation *op, const llvm::Twine &message) {
  return llvm::createStringError("'" + op->getName().getStringRef() + "': " + message);
}

static int64_t lastDimension(Value value) {
  return cast<RankedTensorType>(value.getType()).getShape().back();
}

static Matrix matrix(Floats data, int64_t cols) {
  return {data, int64_t(data.size()) / cols, cols};
}

struct Interpreter::State {
  ModuleOp module;
  func::FuncOp function;
  InterpreterOptions options;
  SymbolTableCollection symbols;
  llvm::DenseMap<Operation *, RuntimeValue> weights; ///< decoded, views included
  std::shared_ptr<Cache> cache;                      ///< between calls

  // Of the call in progress.
  llvm::DenseMap<Value, RuntimeValue> values;
  llvm::DenseMap<Value, int64_t> usesLeft;

  State(ModuleOp module, InterpreterOptions options) : module(module), options(options) {}

  Floats floats(Value value) { return values.find(value)->second.floats; }
  Ints ints(Value value) { return *values.find(value)->second.ints; }
  void set(Value value, RuntimeValue runtime) {
    values[value] = std::move(runtime);
    usesLeft[value] = std::distance(value.use_begin(), value.use_end());
  }
  void set(Value value, std::vector<float> data) {
    auto storage = std::make_shared<const std::vector<float>>(std::move(data));
    set(value, {storage, *storage, nullptr, nullptr});
  }
  void set(Value value, std::vector<int32_t> data) {
    set(value,
        {nullptr, {}, std::make_shared<const std::vector<int32_t>>(std::move(data)), nullptr});
  }
  void release(Operation *op);
  ActivationKind activations(WeightedOpInterface op) const;
  Expected<RuntimeValue> weight(WeightOp op);
  Error run(Operation *op);

  // One for each op whose evaluation is more than a call.
  Error runUse(UseOp op);
  Error runGather(Operation *op, Value table, Value ids, Value result);
  Error runExpertLinear(ExpertLinearOp op);
  Error runAttention(AttentionOp op);
  Error runRoute(RouteOp op);
  Error runQuantize(QuantizeOp op);
};

/// Drops the operands that nothing reads any more.
void Interpreter::State::release(Operation *op) {
  for (Value operand : op->getOperands())
    if (--usesLeft[operand] == 0)
      values.erase(operand);
}

ActivationKind Interpreter::State::activations(WeightedOpInterface op) const {
  if (options.activations)
    return *options.activations;
  switch (op.getActivations()) {
  case quern::ActivationFormat::Fast: {
    if (options.fast)
      return *options.fast;
    auto type = cast<RankedTensorType>(op.getWeightOperand().get().getType());
    int64_t rank = type.getRank();
    auto layout = format::PackedLayout::get(getFormat(type), type.getDimSize(rank - 2),
                                            type.getDimSize(rank - 1));
    if (!layout) { // kernels do not have it either: the choice is free
      llvm::consumeError(layout.takeError());
      return ActivationKind::Q8;
    }
    return format::prefersInt8Activations(*layout) ? ActivationKind::Q8 : ActivationKind::BF16;
  }
  case quern::ActivationFormat::F32:
    return ActivationKind::F32;
  case quern::ActivationFormat::BF16:
    return ActivationKind::BF16;
  case quern::ActivationFormat::Q8:
    return ActivationKind::Q8;
  case quern::ActivationFormat::Int8:
    return ActivationKind::Int8;
  case quern::ActivationFormat::Q4:
    return ActivationKind::Q4;
  case quern::ActivationFormat::Int4:
    return ActivationKind::Int4;
  }
  llvm_unreachable("all formats are covered");
}

Expected<RuntimeValue> Interpreter::State::weight(WeightOp op) {
  auto found = weights.find(op);
  if (found != weights.end())
    return found->second;
  RuntimeValue value;
  if (op.isView()) {
    auto base = symbols.lookupNearestSymbolFrom<WeightOp>(op, op.getSourceAttr());
    Expected<RuntimeValue> whole = weight(base);
    if (!whole)
      return whole.takeError();
    int64_t rowSize = op.getTensorType().getNumElements() / op.getTensorType().getDimSize(0);
    value.storage = whole->storage;
    value.floats =
        whole->floats.subspan(*op.getRowBegin() * rowSize, op.getTensorType().getNumElements());
  } else {
    std::vector<int32_t> columns;
    Expected<std::vector<float>> data = decodeWeight(op, &columns);
    if (!data)
      return data.takeError();
    if (!columns.empty())
      value.ints = std::make_shared<const std::vector<int32_t>>(std::move(columns));
    value.storage = std::make_shared<const std::vector<float>>(std::move(*data));
    value.floats = *value.storage;
  }
  weights[op] = value;
  return value;
}

Error Interpreter::State::runUse(UseOp op) {
  auto symbol = symbols.lookupNearestSymbolFrom<WeightOp>(op, op.getWeightAttr());
  Expected<RuntimeValue> value = weight(symbol);
  if (!value)
    return value.takeError();
  set(op.getResult(), *value);
  return Error::success();
}

Error Interpreter::State::runGather(Operation *op, Value table, Value ids, Value result) {
  Matrix rows = matrix(floats(table), lastDimension(table));
  for (int32_t id : ints(ids))
    if (id < 0 || id >= rows.rows)
      return opError(op, "index " + llvm::Twine(id) + " is not below " + llvm::Twine(rows.rows));
  std::vector<float> out(ints(ids).size() * rows.cols);
  takeRows(rows, ints(ids), out);
  set(result, std::move(out));
  return Error::success();
}

Error Interpreter::State::runExpertLinear(ExpertLinearOp op) {
  llvm::ArrayRef<int64_t> shape = op.getWeight().getType().getShape();
  Ints ids = ints(op.getIds());
  for (int32_t id : ids)
    if (id < 0 || id >= shape[0])
      return opError(op, "expert " + llvm::Twine(id) + " is not below " + llvm::Twine(shape[0]));
  std::vector<float> out(ids.size() * shape[1]);
  bool oneRowEach = op.getX().getType().getRank() == 3;
  int64_t used = lastDimension(op.getIds());
  Matrix x = matrix(floats(op.getX()), shape[2]);
  std::vector<float> repeated;
  if (!oneRowEach && used > 1) { // spell the sharing out: x[t, j] = x[t]
    for (int64_t t = 0; t < x.rows; ++t)
      for (int64_t j = 0; j < used; ++j)
        repeated.insert(repeated.end(), x.row(t).begin(), x.row(t).end());
    x = matrix(repeated, shape[2]);
  }
  expertLinear(x, matrix(floats(op.getWeight()), shape[2]), shape[0], ids, used, activations(op),
               out);
  set(op.getResult(), std::move(out));
  return Error::success();
}

Error Interpreter::State::runAttention(AttentionOp op) {
  RuntimeValue before = values.find(op.getCache())->second;
  // A cache that others still read must not change under them.
  if (!op.getCache().hasOneUse())
    before.cache = std::make_shared<Cache>(*before.cache);
  KvCache &layer = (*before.cache)[op.getLayer()];
  Ints positions = ints(op.getPositions()), sequences = ints(op.getSequences());
  for (auto [position, sequence] : llvm::zip(positions, sequences))
    if (position < 0 || position >= layer.context || sequence < 0 || sequence >= layer.sequences)
      return opError(op, "position " + llvm::Twine(position) + " of sequence " +
                             llvm::Twine(sequence) + " is not in a cache of " +
                             llvm::Twine(layer.sequences) + " sequences of " +
                             llvm::Twine(layer.context));
  AttentionShape shape{op.getHeads(), op.getKvHeads(), op.getHeadDim()};
  shape.scale = op.getScale().convertToFloat();
  shape.window = op.getWindow().value_or(0);
  shape.softcap = op.getSoftcap() ? op.getSoftcap()->convertToFloat() : 0;
  std::vector<float> out(floats(op.getQ()).size());
  attention(floats(op.getQ()), floats(op.getK()), floats(op.getV()), positions, sequences, shape,
            layer, out);
  set(op.getOutput(), std::move(out));
  set(op.getNewCache(), before);
  return Error::success();
}

Error Interpreter::State::runRoute(RouteOp op) {
  Matrix logits = matrix(floats(op.getLogits()), lastDimension(op.getLogits()));
  int64_t used = op.getTopK();
  std::vector<int32_t> ids(logits.rows * used);
  std::vector<float> weights(ids.size());
  route(logits, used, op.getNormalize(), ids, weights);
  set(op.getIds(), std::move(ids));
  set(op.getWeights(), std::move(weights));
  return Error::success();
}

/// The value of a quantized tensor is what it decodes to.
Error Interpreter::State::runQuantize(QuantizeOp op) {
  auto type = cast<RankedTensorType>(op.getResult().getType());
  format::Spec spec = getFormat(type);
  Floats x = floats(op.getX());
  Matrix all = matrix(x, lastDimension(op.getX()));
  int64_t rows = type.getRank() < 2 ? 1 : type.getShape()[type.getRank() - 2];
  std::vector<float> out(x.size());
  for (int64_t first = 0; first < all.rows; first += rows) { // each matrix of a stack by itself
    format::Components components;
    llvm::ArrayRef<float> in(x.data() + first * all.cols, rows * all.cols);
    if (Error error = format::encode(spec, in, rows, all.cols, components))
      return error;
    llvm::MutableArrayRef<float> slice(out.data() + first * all.cols, rows * all.cols);
    if (Error error = format::decode(spec, components, slice))
      return error;
  }
  set(op.getResult(), std::move(out));
  return Error::success();
}

static GateFunction gateFunction(Gate function) {
  switch (function) {
  case Gate::SiLU:
    return GateFunction::Silu;
  case Gate::GeluTanh:
    return GateFunction::GeluTanh;
  case Gate::Gelu:
    return GateFunction::Gelu;
  }
  llvm_unreachable("all functions are covered");
}

Error Interpreter::State::run(Operation *operation) {
  auto optional = [&](Value value) { return value ? floats(value) : Floats(); };
  auto finish = [&](Value result, std::vector<float> out) {
    set(result, std::move(out));
    return Error::success();
  };
  return llvm::TypeSwitch<Operation *, Error>(operation)
      .Case([&](UseOp op) { return runUse(op); })
      .Case<ObserveOp, BoundaryOp>([&](auto) { return Error::success(); })
      .Case([&](EmbeddingOp op) {
        return runGather(op, op.getTable(), op.getTokens(), op.getResult());
      })
      .Case(
          [&](TakeRowsOp op) { return runGather(op, op.getX(), op.getIndices(), op.getResult()); })
      .Case([&](LinearOp op) -> Error {
        Matrix x = matrix(floats(op.getX()), lastDimension(op.getX()));
        Matrix w = matrix(floats(op.getWeight()), lastDimension(op.getWeight()));
        std::vector<float> out(x.rows * w.rows), permutedX, permutedW;
        if (auto columns = values.find(op.getWeight())->second.ints) {
          x = matrix(permutedX = takeColumns(x, *columns), x.cols);
          w = matrix(permutedW = takeColumns(w, *columns), w.cols);
        }
        ActivationKind kind = activations(op);
        Kept kept;
        if (op.getOutlierThreshold())
          kept.from = op.getOutlierThreshold()->convertToFloat();
        if (const format::Spec &spec = getFormat(op.getWeight().getType());
            spec.kind == format::Spec::Kind::Split) {
          auto sets = format::splitColumns(spec, x.cols);
          if (!sets)
            return sets.takeError();
          kept.columns = x.cols - sets->back(); // all sets of a split but the last
        }
        if (op.getStaticScale() && kind == ActivationKind::Int8)
          linear(x, w, optional(op.getBias()),
                 StaticScale{op.getStaticScale()->convertToFloat(), int32_t(op.getStaticZero())},
                 out, kept);
        else
          linear(x, w, optional(op.getBias()), kind, out, kept);
        return finish(op.getResult(), std::move(out));
      })
      .Case([&](ExpertLinearOp op) { return runExpertLinear(op); })
      .Case([&](RMSNormOp op) {
        std::vector<float> out(floats(op.getX()).size());
        rmsNorm(floats(op.getX()), floats(op.getGain()), op.getEps().convertToFloat(),
                op.getUnitOffset(), out);
        return finish(op.getResult(), std::move(out));
      })
      .Case([&](LayerNormOp op) {
        std::vector<float> out(floats(op.getX()).size());
        layerNorm(floats(op.getX()), floats(op.getGain()), optional(op.getBias()),
                  op.getEps().convertToFloat(), out);
        return finish(op.getResult(), std::move(out));
      })
      .Case([&](RopeOp op) {
        std::vector<float> out(floats(op.getX()).size());
        RopeShape shape{op.getHeads(), int64_t(op.getHeadDim()),
                        op.isInterleaved() ? reference::RopePairing::Interleaved
                                           : reference::RopePairing::Neox,
                        op.getFrequencies(), op.getFactor()};
        rope(floats(op.getX()), ints(op.getPositions()), shape, out);
        return finish(op.getResult(), std::move(out));
      })
      .Case([&](AttentionOp op) { return runAttention(op); })
      .Case([&](GatedActivationOp op) {
        std::vector<float> out(floats(op.getGate()).size());
        gatedActivation(gateFunction(op.getFunction()), floats(op.getGate()), floats(op.getUp()),
                        out);
        return finish(op.getResult(), std::move(out));
      })
      .Case([&](AddOp op) {
        std::vector<float> out(floats(op.getLhs()).size());
        add(floats(op.getLhs()), floats(op.getRhs()), out);
        return finish(op.getResult(), std::move(out));
      })
      .Case([&](ScaleOp op) {
        std::vector<float> out(floats(op.getX()).size());
        scale(floats(op.getX()), op.getFactor().convertToFloat(), out);
        return finish(op.getResult(), std::move(out));
      })
      .Case([&](ScaleChannelsOp op) {
        std::vector<float> out(floats(op.getX()).size());
        scaleChannels(floats(op.getX()), floats(op.getFactors()), out);
        return finish(op.getResult(), std::move(out));
      })
      .Case([&](HadamardOp op) {
        std::vector<float> out(floats(op.getX()).size());
        hadamard(floats(op.getX()), int64_t(op.getBlock()), out);
        return finish(op.getResult(), std::move(out));
      })
      .Case([&](SoftcapOp op) {
        std::vector<float> out(floats(op.getX()).size());
        softcap(floats(op.getX()), op.getCap().convertToFloat(), out);
        return finish(op.getResult(), std::move(out));
      })
      .Case([&](RouteOp op) { return runRoute(op); })
      .Case([&](CombineExpertsOp op) {
        int64_t used = lastDimension(op.getWeights()), width = lastDimension(op.getX());
        std::vector<float> out(floats(op.getWeights()).size() / used * width);
        combineExperts(floats(op.getX()), floats(op.getWeights()), used, width, out);
        return finish(op.getResult(), std::move(out));
      })
      .Case([&](QuantizeOp op) { return runQuantize(op); })
      .Case([&](DequantizeOp op) {
        set(op.getResult(), values.find(op.getX())->second);
        return Error::success();
      })
      .Default([](Operation *op) { return opError(op, "has no reference semantics"); });
}

//===----------------------------------------------------------------------===//
// The public face
//===----------------------------------------------------------------------===//

/// Checks that `function` has the shape of a forward pass.
static Error checkSignature(func::FuncOp function) {
  FunctionType type = function.getFunctionType();
  bool right = type.getNumInputs() == 5 && type.getNumResults() == 2 &&
               isa<KvCacheType>(type.getInput(4)) && type.getInput(4) == type.getResult(1) &&
               llvm::hasSingleElement(function.getBody());
  for (unsigned i = 0; right && i < 4; ++i) {
    auto input = dyn_cast<RankedTensorType>(type.getInput(i));
    right = input && input.getRank() == 1 && input.getElementType().isInteger(32);
  }
  auto logits = right ? dyn_cast<RankedTensorType>(type.getResult(0)) : RankedTensorType();
  if (logits && logits.getRank() == 2 && !logits.isDynamicDim(1))
    return Error::success();
  std::string found;
  llvm::raw_string_ostream(found) << type;
  return llvm::createStringError("@forward should take tokens, positions, sequences, outputs and a "
                                 "cache, and return logits and the cache; found " +
                                 found);
}

Interpreter::Interpreter(std::unique_ptr<State> state) : state(std::move(state)) {}
Interpreter::~Interpreter() = default;

Expected<std::unique_ptr<Interpreter>> Interpreter::create(ModuleOp module,
                                                           InterpreterOptions options) {
  auto state = std::make_unique<State>(module, options);
  state->function = module.lookupSymbol<func::FuncOp>("forward");
  if (!state->function || state->function.isExternal())
    return llvm::createStringError("the module has no function @forward");
  if (Error error = checkSignature(state->function))
    return error;
  auto type = cast<KvCacheType>(state->function.getArgument(4).getType());
  CacheFormat format = type.getElement() == CacheElement::F32   ? CacheFormat::F32
                       : type.getElement() == CacheElement::F16 ? CacheFormat::F16
                       : type.getElement() == CacheElement::Q4  ? CacheFormat::Q4
                                                                : CacheFormat::Q8_0;
  state->cache = std::make_shared<Cache>(type.getLayers(),
                                         KvCache(format, options.sequences, type.getContextLength(),
                                                 type.getKvHeads(), type.getHeadDim()));
  return std::unique_ptr<Interpreter>(new Interpreter(std::move(state)));
}

int64_t Interpreter::vocabulary() const {
  return cast<RankedTensorType>(state->function.getResultTypes()[0]).getDimSize(1);
}

int64_t Interpreter::context() const { return state->cache->front().context; }

Expected<std::vector<float>> Interpreter::forward(const InterpreterStep &step) {
  Block &body = state->function.front();
  if (step.positions.size() != step.tokens.size() || step.sequences.size() != step.tokens.size())
    return llvm::createStringError("a step needs a position and a sequence for each token");
  state->values.clear();
  state->usesLeft.clear();
  std::array<llvm::ArrayRef<int32_t>, 4> inputs = {step.tokens, step.positions, step.sequences,
                                                   step.outputs};
  for (auto [data, argument] : llvm::zip_first(inputs, body.getArguments()))
    state->set(argument, std::vector<int32_t>(data.begin(), data.end()));
  state->set(body.getArgument(4), RuntimeValue{nullptr, {}, nullptr, state->cache});

  for (Operation &op : body.without_terminator()) {
    if (Error error = state->run(&op))
      return error;
    state->release(&op);
  }
  Operation *result = body.getTerminator();
  state->cache = state->values.find(result->getOperand(1))->second.cache;
  Floats logits = state->floats(result->getOperand(0));
  std::vector<float> copy(logits.begin(), logits.end());
  state->values.clear();
  return copy;
}

Expected<std::vector<float>> Interpreter::forward(llvm::ArrayRef<int32_t> tokens, int32_t first) {
  std::vector<int32_t> positions(tokens.size()), sequences(tokens.size(), 0),
      outputs(tokens.size());
  std::iota(positions.begin(), positions.end(), first);
  std::iota(outputs.begin(), outputs.end(), 0);
  return forward(InterpreterStep{tokens, positions, sequences, outputs});
}
