//===- QuernToKernels.cpp - Model level to kernels and schedules ----------===//
//
// Walks `forward` once for steps of one token and once for steps of many, and emits a
// launch for each operation. Values become buffers; rope and residual sums happen in place.
//
//===----------------------------------------------------------------------===//
#include "KernelOutliner.h"
#include "quern/Conversion/LinearEmitter.h"
#include "quern/Conversion/Passes.h"
#include "quern/Dialect/Quern/IR/QuernOps.h"
#include "quern/Format/PackedLayout.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/TypeSwitch.h"

namespace quern {
#define GEN_PASS_DEF_QUERNTOKERNELSPASS
#include "quern/Conversion/Passes.h.inc"
} // namespace quern

using namespace mlir;
using namespace quern;
using kernel::Access;
using kernel::Domain;

namespace {

/// Slots a cache type has room for; the number in use is the runtime's.
constexpr int64_t slotBound = 1024;
/// Queries of a kv head worked on together when there are many tokens.
constexpr int64_t tokensPerBlock = 16, rowsAtOnce = 4;

/// Indices into the program's table of weights, by name, in the order of first use.
using WeightTable = llvm::MapVector<StringRef, int64_t>;

class ScheduleBuilder {
public:
  ScheduleBuilder(func::FuncOp forward, KernelOutliner &outliner, WeightTable &table,
                  int64_t maxTokens)
      : forward(forward), outliner(outliner), table(table), symbols(getModule()),
        maxTokens(maxTokens), single(maxTokens == 1), b(forward.getLoc(), forward.getContext()) {}

  LogicalResult run(StringRef name);

private:
  ModuleOp getModule() { return forward->getParentOfType<ModuleOp>(); }

  LogicalResult convert(Operation *op);
  LogicalResult convert(EmbeddingOp op);
  LogicalResult convert(LinearOp op);
  LogicalResult convert(ExpertLinearOp op);
  LogicalResult convert(RMSNormOp op);
  LogicalResult convert(LayerNormOp op);
  LogicalResult convert(RopeOp op);
  LogicalResult convert(AttentionOp op);
  LogicalResult convert(GatedActivationOp op);
  LogicalResult convert(AddOp op);
  LogicalResult convert(ScaleOp op);
  LogicalResult convert(SoftcapOp op);
  LogicalResult convert(TakeRowsOp op);
  LogicalResult convert(ObserveOp op);
  LogicalResult convert(RouteOp op);
  LogicalResult convert(CombineExpertsOp op);

  // Buffers and values.
  MemRefType rowsType(Value tensor);
  Value newBuffer(MemRefType type, bool isPrivate = false) {
    return kernel::BufferOp::create(b, type, isPrivate, IntegerAttr());
  }
  Value resultBuffer(Value tensor, bool isPrivate = false);
  Value buffer(Value tensor) { return buffers.lookup(tensor); }
  Value countOf(Value tensor) {
    Value count = counts.lookup(tensor);
    return count ? count : tokenCount;
  }
  bool isPrivate(Value buffer) {
    auto op = buffer.getDefiningOp<kernel::BufferOp>();
    return op && op.getIsPrivate();
  }
  Value constantUnits(int64_t n);
  Value arrayOf(kernel::StepArray array, Type element, ArrayRef<int64_t> shape) {
    return kernel::StepArrayOp::create(b, MemRefType::get(shape, element), array);
  }
  Value weight(Value use, Type element);
  FailureOr<Value> panels(Value use, MemRefType &type);
  Value cachePart(AttentionOp op, int64_t offset, int64_t bytes, Type element);
  /// The activations of a product in its form; quantized once for all that read them.
  Value activations(Value x, kernel::Activation form);
  Value ropeTable(RopeAttr rope);

  // Launches.
  LaunchShape rows(Value tensor, bool replicated = false) {
    return {Domain::Rows, countOf(tensor), countOf(tensor), replicated};
  }
  /// Work on `perToken` heads of each token. One token: by kv head, as attention reads them.
  /// Sets `scale` to the heads of a unit.
  LaunchShape heads(Value tensor, int64_t perToken, int64_t &scale) {
    int64_t kvHeads = cast<KvCacheType>(forward.getArgument(4).getType()).getKvHeads();
    if (!single || perToken % kvHeads) {
      scale = perToken;
      return rows(tensor);
    }
    scale = perToken / kvHeads;
    return {Domain::Heads, constantUnits(kvHeads), tokenCount};
  }
  LaunchShape panelsOf(Value tensor, int64_t columns) {
    return {Domain::Panels, constantUnits((columns + 15) / 16), countOf(tensor)};
  }
  void launch(StringRef name, ArrayRef<BufferUse> uses, const LaunchShape &shape,
              llvm::function_ref<void(KernelBody &)> body) {
    outliner.launch(b, b.getLoc(), single ? name.str() : name.str() + "_many", uses, shape, body);
  }
  /// Whether every thread had better compute the result for itself: one row that only products
  /// (which every thread takes part in) read.
  bool replicable(Value result) {
    return single && llvm::all_of(result.getUsers(), [](Operation *user) {
             return isa<LinearOp, ExpertLinearOp>(user);
           });
  }
  bool joinsResidual(LinearOp op, AddOp &sum, Value &residual);

  func::FuncOp forward;
  KernelOutliner &outliner;
  WeightTable &table;
  SymbolTable symbols;
  int64_t maxTokens;
  bool single;
  ImplicitLocOpBuilder b;

  Value tokenCount, outputCount, tokens, positions, sequences, outputs;
  llvm::DenseMap<Value, Value> buffers, counts;
  llvm::DenseMap<std::pair<Value, int>, Value> quantized; ///< by f32 buffer and form
  llvm::DenseMap<Attribute, Value> ropeTables;
  llvm::DenseMap<int64_t, Value> units;
  llvm::DenseSet<Operation *> done; ///< converted together with another operation
  Value logits;                     ///< the model's result
};

std::string shapeName(StringRef stem, ArrayRef<int64_t> shape) {
  std::string name = stem.str();
  for (auto [i, size] : llvm::enumerate(shape))
    name += (i ? "x" : "_") + std::to_string(size);
  return name;
}

kernel::Activation resolve(ActivationFormat format) {
  switch (format) {
  case ActivationFormat::F32: return kernel::Activation::F32;
  case ActivationFormat::BF16: return kernel::Activation::BF16;
  case ActivationFormat::Int8: return kernel::Activation::Int8;
  case ActivationFormat::Q8:
  case ActivationFormat::Fast: return kernel::Activation::Q8;
  }
  llvm_unreachable("all formats covered");
}

conversion::Activation layoutForm(kernel::Activation form) {
  return static_cast<conversion::Activation>(static_cast<int>(form));
}
static_assert(int(conversion::Activation::F32) == int(kernel::Activation::F32) &&
              int(conversion::Activation::BF16) == int(kernel::Activation::BF16) &&
              int(conversion::Activation::Q8) == int(kernel::Activation::Q8) &&
              int(conversion::Activation::Int8) == int(kernel::Activation::Int8));

} // namespace

//===----------------------------------------------------------------------===//
// Buffers and values
//===----------------------------------------------------------------------===//

MemRefType ScheduleBuilder::rowsType(Value tensor) {
  auto type = cast<RankedTensorType>(tensor.getType());
  SmallVector<int64_t> shape(type.getShape());
  shape[0] = maxTokens;
  return MemRefType::get(shape, type.getElementType());
}

Value ScheduleBuilder::resultBuffer(Value tensor, bool isPrivate) {
  Value result = tensor == logits
                     ? arrayOf(kernel::StepArray::Logits, b.getF32Type(), rowsType(tensor).getShape())
                     : newBuffer(rowsType(tensor), isPrivate);
  buffers[tensor] = result;
  if (Operation *op = tensor.getDefiningOp())
    for (Value operand : op->getOperands())
      if (Value count = counts.lookup(operand))
        counts[tensor] = count;
  return result;
}

Value ScheduleBuilder::constantUnits(int64_t n) {
  Value &value = units[n];
  if (!value) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointAfterValue(tokenCount);
    value = kernel::UnitsOp::create(b, b.getIndexType(), Value(), 1, n);
  }
  return value;
}

/// A vector, stored as plain rows of `element`.
Value ScheduleBuilder::weight(Value use, Type element) {
  auto op = symbols.lookup<WeightOp>(use.getDefiningOp<UseOp>().getWeight());
  int64_t offset = 0;
  auto type = MemRefType::get(op.getTensorType().getShape(), element);
  if (op.isView()) {
    offset = *op.getRowBegin() * element.getIntOrFloatBitWidth() / 8;
    op = symbols.lookup<WeightOp>(*op.getSource());
  }
  int64_t index = table.insert({op.getSymName(), int64_t(table.size())}).first->second;
  return kernel::WeightOp::create(b, type, index, op.getSymName(), offset);
}

/// A matrix or a stack of them, as panels.
FailureOr<Value> ScheduleBuilder::panels(Value use, MemRefType &type) {
  auto op = symbols.lookup<WeightOp>(use.getDefiningOp<UseOp>().getWeight());
  RankedTensorType tensor = op.getTensorType();
  int64_t rank = tensor.getRank(), matrices = rank == 3 ? tensor.getDimSize(0) : 1;
  auto layout = format::PackedLayout::get(getFormat(tensor), tensor.getDimSize(rank - 2),
                                          tensor.getDimSize(rank - 1));
  if (!layout)
    return op.emitOpError() << "cannot be packed: " << llvm::toString(layout.takeError());
  int64_t offset = 0;
  if (op.isView()) {
    int64_t row = *op.getRowBegin();
    if (rank != 2 || row % format::PackedLayout::panelRows)
      return op.emitOpError() << "starts at row " << row << " of its source, which is not a "
                              << "multiple of " << format::PackedLayout::panelRows;
    if (layout->tableBytes)
      return op.emitOpError("is a view, which a format with a learned table cannot have");
    offset = row / format::PackedLayout::panelRows * layout->panelBytes;
    op = symbols.lookup<WeightOp>(*op.getSource());
  }
  int64_t index = table.insert({op.getSymName(), int64_t(table.size())}).first->second;
  type = MemRefType::get({matrices * layout->bytes()}, b.getI8Type());
  return Value(kernel::WeightOp::create(b, type, index, op.getSymName(), offset));
}

Value ScheduleBuilder::activations(Value tensor, kernel::Activation form) {
  Value x = buffer(tensor);
  if (form == kernel::Activation::F32)
    return x;
  Value &result = quantized[{x, int(form)}];
  if (result)
    return result;
  auto type = cast<MemRefType>(x.getType());
  int64_t k = type.getShape().back(), perToken = type.getNumElements() / k / maxTokens;
  int64_t bytes = conversion::ActivationLayout::get(layoutForm(form), k).bytes;
  result = newBuffer(MemRefType::get({maxTokens * perToken * bytes}, b.getI8Type()), single);
  Access access = single ? Access::Read : Access::ReadPart;
  launch(shapeName("quantize_" + kernel::stringifyActivation(form).str(), {k}),
         {{x, access}, {result, Access::WritePart}}, rows(tensor, single), [&](KernelBody &body) {
           kernel::TileQuantizeOp::create(body.b, body.buffers[0], body.buffers[1],
                                          body.scaled(body.begin, perToken),
                                          body.scaled(body.end, perToken), form);
         });
  return result;
}

Value ScheduleBuilder::ropeTable(RopeAttr rope) {
  Value &result = ropeTables[rope];
  if (result)
    return result;
  int64_t pairs = rope.getFrequencies().size();
  result = newBuffer(MemRefType::get({maxTokens, 2 * pairs}, b.getF32Type()), single);
  launch(shapeName("rope_table", {pairs}),
         {{positions, Access::Read}, {result, Access::WritePart}},
         {Domain::Rows, tokenCount, tokenCount, single}, [&](KernelBody &body) {
           kernel::TileRopeTableOp::create(body.b, body.buffers[0], body.buffers[1], body.begin,
                                           body.end, rope.getFrequencies(),
                                           APFloat(rope.getFactor()));
         });
  return result;
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

LogicalResult ScheduleBuilder::convert(EmbeddingOp op) {
  MemRefType type;
  FailureOr<Value> matrix = panels(op.getTable(), type);
  if (failed(matrix))
    return failure();
  Value out = resultBuffer(op.getResult());
  Type tableType = op.getTable().getType();
  launch(shapeName("embedding", cast<ShapedType>(tableType).getShape()),
         {{tokens, Access::Read}, {*matrix, Access::Read}, {out, Access::WritePart}},
         rows(op.getResult()), [&](KernelBody &body) {
           kernel::TileEmbeddingOp::create(body.b, body.buffers[0], body.buffers[1],
                                           body.buffers[2], body.begin, body.end, tableType);
         });
  return success();
}

/// Whether the result is only added to a value that nothing reads afterwards: then the product
/// adds itself to that value's buffer.
bool ScheduleBuilder::joinsResidual(LinearOp op, AddOp &sum, Value &residual) {
  if (!op.getResult().hasOneUse())
    return false;
  sum = dyn_cast<AddOp>(*op.getResult().getUsers().begin());
  if (!sum || sum.getLhs() == sum.getRhs())
    return false;
  residual = sum.getLhs() == op.getResult() ? sum.getRhs() : sum.getLhs();
  Value memory = buffer(residual);
  return memory && memory.getDefiningOp<kernel::BufferOp>() && !isPrivate(memory) &&
         llvm::all_of(residual.getUsers(), [&](Operation *user) {
           return user == sum || user->isBeforeInBlock(op);
         });
}

LogicalResult ScheduleBuilder::convert(LinearOp op) {
  MemRefType type;
  FailureOr<Value> matrix = panels(op.getWeight(), type);
  if (failed(matrix))
    return failure();
  kernel::Activation form = resolve(op.getActivations());
  Value x = activations(op.getX(), form);
  AddOp sum;
  Value residual;
  bool joined = joinsResidual(op, sum, residual);
  Value out;
  if (joined) {
    out = buffer(residual);
    buffers[sum.getResult()] = out;
    if (Value count = counts.lookup(residual))
      counts[sum.getResult()] = count;
    done.insert(sum);
    // What was made of the old contents is of no use any more.
    for (int form = 0; form < 4; ++form)
      quantized.erase({out, form});
  } else {
    out = resultBuffer(op.getResult());
  }
  SmallVector<BufferUse> uses = {{x, Access::Read}, {*matrix, Access::Read}};
  if (op.getBias())
    uses.push_back({weight(op.getBias(), b.getF32Type()), Access::Read});
  uses.push_back({out, joined ? Access::UpdatePart : Access::WritePart});
  auto weightType = cast<RankedTensorType>(op.getWeight().getType());
  launch(shapeName("linear_" + kernel::stringifyActivation(form).str(), weightType.getShape()),
         uses, panelsOf(op.getX(), weightType.getDimSize(0)), [&](KernelBody &body) {
           Value out = body.buffers.back();
           kernel::TileLinearOp::create(body.b, body.buffers[0], body.buffers[1],
                                        op.getBias() ? body.buffers[2] : Value(),
                                        joined ? out : Value(), out, body.begin, body.end,
                                        body.tokens, weightType, form);
         });
  return success();
}

LogicalResult ScheduleBuilder::convert(ExpertLinearOp op) {
  MemRefType type;
  FailureOr<Value> matrix = panels(op.getWeight(), type);
  if (failed(matrix))
    return failure();
  kernel::Activation form = resolve(op.getActivations());
  Value x = activations(op.getX(), form);
  Value out = resultBuffer(op.getResult());
  auto weightType = cast<RankedTensorType>(op.getWeight().getType());
  bool sliced = cast<ShapedType>(op.getX().getType()).getRank() == 3;
  launch(
      shapeName("expert_linear_" + kernel::stringifyActivation(form).str(), weightType.getShape()),
      {{x, Access::Read},
       {*matrix, Access::Read},
       {buffer(op.getIds()), Access::Read},
       {out, Access::WritePart}},
      panelsOf(op.getX(), weightType.getDimSize(1)), [&](KernelBody &body) {
        kernel::TileExpertLinearOp::create(body.b, body.buffers[0], body.buffers[1],
                                           body.buffers[2], body.buffers[3], body.begin, body.end,
                                           body.tokens, weightType, form, sliced);
      });
  return success();
}

//===----------------------------------------------------------------------===//
// Norms and attention
//===----------------------------------------------------------------------===//

LogicalResult ScheduleBuilder::convert(RMSNormOp op) {
  Value x = buffer(op.getX()), gain = weight(op.getGain(), b.getF32Type());
  bool repeated = replicable(op.getResult());
  Value out = resultBuffer(op.getResult(), repeated);
  int64_t length = cast<MemRefType>(gain.getType()).getNumElements();
  int64_t perToken = rowsType(op.getX()).getShape().back() / length;
  auto norm = [&](Value out, bool repeated) {
    int64_t scale = perToken;
    LaunchShape shape = perToken > 1 && !repeated ? heads(op.getX(), perToken, scale)
                                                  : rows(op.getX(), repeated);
    launch(shapeName("rms_norm", {length}),
           {{x, repeated ? Access::Read : Access::ReadPart},
            {gain, Access::Read},
            {out, Access::WritePart}},
           shape, [&](KernelBody &body) {
             kernel::TileRmsNormOp::create(body.b, body.buffers[0], body.buffers[1],
                                           body.buffers[2], body.scaled(body.begin, scale),
                                           body.scaled(body.end, scale), op.getEps(),
                                           op.getUnitOffset());
           });
  };
  norm(out, repeated);
  // The final hidden states are an output of their own, if the caller wants them.
  auto makesLogits = [&](Operation *user) { return llvm::is_contained(user->getResults(), logits); };
  if (llvm::any_of(op.getResult().getUsers(), makesLogits))
    norm(arrayOf(kernel::StepArray::Embeddings, b.getF32Type(), rowsType(op.getX()).getShape()),
         false);
  return success();
}

LogicalResult ScheduleBuilder::convert(LayerNormOp op) {
  Value x = buffer(op.getX()), gain = weight(op.getGain(), b.getF32Type());
  bool repeated = replicable(op.getResult());
  Value out = resultBuffer(op.getResult(), repeated);
  SmallVector<BufferUse> uses = {{x, repeated ? Access::Read : Access::ReadPart},
                                 {gain, Access::Read}};
  if (op.getBias())
    uses.push_back({weight(op.getBias(), b.getF32Type()), Access::Read});
  uses.push_back({out, Access::WritePart});
  launch(shapeName("layer_norm", cast<ShapedType>(gain.getType()).getShape()), uses,
         rows(op.getX(), repeated), [&](KernelBody &body) {
           kernel::TileLayerNormOp::create(body.b, body.buffers[0], body.buffers[1],
                                           op.getBias() ? body.buffers[2] : Value(),
                                           body.buffers.back(), body.begin, body.end, op.getEps());
         });
  return success();
}

LogicalResult ScheduleBuilder::convert(RopeOp op) {
  // In place, into a copy if somebody else reads the operand.
  if (!op.getX().hasOneUse())
    return op.emitOpError("expects an operand that nothing else reads");
  Value x = buffer(op.getX()), angles = ropeTable(op.getRope());
  buffers[op.getResult()] = x;
  int64_t count = op.getHeads(), scale = 0;
  LaunchShape shape = heads(op.getX(), count, scale);
  launch(shapeName("rope", {count, int64_t(op.getHeadDim())}),
         {{x, Access::UpdatePart}, {angles, single ? Access::Read : Access::ReadPart}}, shape,
         [&](KernelBody &body) {
           kernel::TileRopeOp::create(body.b, body.buffers[0], body.buffers[1],
                                      body.scaled(body.begin, scale),
                                      body.scaled(body.end, scale), count, op.isInterleaved());
         });
  return success();
}

Value ScheduleBuilder::cachePart(AttentionOp op, int64_t offset, int64_t slotBytes, Type element) {
  int64_t elements = slotBytes / (element.getIntOrFloatBitWidth() / 8);
  return kernel::CacheOp::create(b, MemRefType::get({slotBound, elements}, element), offset);
}

LogicalResult ScheduleBuilder::convert(AttentionOp op) {
  KvCacheType cache = op.getCache().getType();
  int64_t kvHeads = cache.getKvHeads(), dim = cache.getHeadDim(), heads = op.getHeads();
  int64_t capacity = llvm::alignTo(cache.getContextLength(), kernel::keyLanes);
  bool coded = cache.getElement() == CacheElement::Q8_0;
  if (coded && dim % kernel::cacheGroup)
    return op.emitOpError() << "expects heads of a multiple of " << kernel::cacheGroup
                            << " dimensions for a q8_0 cache, found " << dim;
  Type element = coded                                        ? Type(b.getI8Type())
                 : cache.getElement() == CacheElement::F16 ? Type(b.getF16Type())
                                                              : Type(b.getF32Type());
  // A layer's part of a slot: keys, values, their scales; each a multiple of 64 bytes.
  int64_t codes = llvm::alignTo(kvHeads * capacity * dim * element.getIntOrFloatBitWidth() / 8, 64);
  int64_t scales = coded ? llvm::alignTo(kvHeads * capacity * dim / kernel::cacheGroup * 2, 64) : 0;
  int64_t slot = cache.getLayers() * 2 * (codes + scales);
  int64_t base = op.getLayer() * 2 * (codes + scales);
  Value k = cachePart(op, base, slot, element), v = cachePart(op, base + codes, slot, element);
  SmallVector<Value> cacheBuffers = {k, v};
  if (coded) {
    cacheBuffers.push_back(cachePart(op, base + 2 * codes, slot, b.getF16Type()));
    cacheBuffers.push_back(cachePart(op, base + 2 * codes + scales, slot, b.getF16Type()));
  }

  // One token: a thread stores and reads the kv heads that are its own, without a barrier.
  LaunchShape perHead = {Domain::Heads, constantUnits(kvHeads), tokenCount};
  SmallVector<BufferUse> store = {{buffer(op.getK()), Access::ReadPart},
                                  {buffer(op.getV()), Access::ReadPart}};
  for (Value part : cacheBuffers)
    store.push_back({part, Access::WritePart});
  store.push_back({positions, Access::Read});
  store.push_back({sequences, Access::Read});
  int64_t perUnit = single ? 1 : kvHeads;
  launch(shapeName("store_kv", {kvHeads, dim}), store, single ? perHead : rows(op.getK()),
         [&](KernelBody &body) {
           ValueRange v = body.buffers;
           kernel::TileStoreKvOp::create(
               body.b, v[0], v[1], v[2], v[3], coded ? v[4] : Value(), coded ? v[5] : Value(),
               v[v.size() - 2], v.back(), body.scaled(body.begin, perUnit),
               body.scaled(body.end, perUnit), kvHeads, capacity);
         });

  Value out = resultBuffer(op.getOutput());
  Access access = single ? Access::ReadPart : Access::Read;
  SmallVector<BufferUse> attend = {{buffer(op.getQ()), access}};
  for (Value part : cacheBuffers)
    attend.push_back({part, access});
  attend.push_back({positions, Access::Read});
  attend.push_back({sequences, Access::Read});
  attend.push_back({out, Access::WritePart});
  LaunchShape blocks = perHead;
  if (!single)
    blocks = {Domain::Blocks, kernel::UnitsOp::create(b, b.getIndexType(), tokenCount, tokensPerBlock, kvHeads),
              tokenCount};
  launch(shapeName("attention", {heads, kvHeads, dim}), attend, blocks, [&](KernelBody &body) {
    ValueRange v = body.buffers;
    size_t n = v.size();
    kernel::TileAttentionOp::create(
        body.b, v[0], v[1], v[2], coded ? v[3] : Value(), coded ? v[4] : Value(), v[n - 3],
        v[n - 2], v[n - 1], body.begin, body.end, body.tokens, heads, kvHeads, capacity,
        op.getScale(), op.getWindow().value_or(0), op.getSoftcap().value_or(APFloat(0.0f)),
        single ? 1 : tokensPerBlock, single ? std::min(heads / kvHeads, rowsAtOnce) : rowsAtOnce);
  });
  return success();
}

//===----------------------------------------------------------------------===//
// Elementwise and experts
//===----------------------------------------------------------------------===//

LogicalResult ScheduleBuilder::convert(GatedActivationOp op) {
  Value gate = buffer(op.getGate()), up = buffer(op.getUp());
  Value out = resultBuffer(op.getResult());
  auto type = cast<MemRefType>(gate.getType());
  int64_t columns = type.getShape().back(), perToken = type.getNumElements() / columns / maxTokens;
  auto function = static_cast<kernel::GateFunction>(static_cast<int>(op.getFunction()));
  launch(shapeName("gated_" + kernel::stringifyGateFunction(function).str(), {columns}),
         {{gate, Access::ReadPart}, {up, Access::ReadPart}, {out, Access::WritePart}},
         panelsOf(op.getGate(), columns), [&](KernelBody &body) {
           kernel::TileGatedActivationOp::create(
               body.b, body.buffers[0], body.buffers[1], body.buffers[2],
               body.column(body.begin, columns), body.column(body.end, columns),
               body.scaled(body.tokens, perToken), function);
         });
  return success();
}

static_assert(int(Gate::SiLU) == int(kernel::GateFunction::Silu) &&
              int(Gate::GeluTanh) == int(kernel::GateFunction::GeluTanh) &&
              int(Gate::Gelu) == int(kernel::GateFunction::Gelu));

LogicalResult ScheduleBuilder::convert(AddOp op) {
  Value lhs = buffer(op.getLhs()), rhs = buffer(op.getRhs());
  Value out = resultBuffer(op.getResult());
  auto type = cast<MemRefType>(lhs.getType());
  int64_t columns = type.getShape().back(), perToken = type.getNumElements() / columns / maxTokens;
  SmallVector<BufferUse> uses = {{lhs, Access::ReadPart}};
  if (rhs != lhs)
    uses.push_back({rhs, Access::ReadPart});
  uses.push_back({out, Access::WritePart});
  launch(shapeName("add", {columns}), uses, rows(op.getLhs()), [&](KernelBody &body) {
    kernel::TileAddOp::create(body.b, body.buffers[0], body.buffers[uses.size() - 2],
                              body.buffers.back(), body.scaled(body.begin, perToken),
                              body.scaled(body.end, perToken));
  });
  return success();
}

LogicalResult ScheduleBuilder::convert(ScaleOp op) {
  Value x = buffer(op.getX());
  Value out = resultBuffer(op.getResult());
  auto type = cast<MemRefType>(x.getType());
  int64_t columns = type.getShape().back(), perToken = type.getNumElements() / columns / maxTokens;
  launch(shapeName("scale", {columns}), {{x, Access::ReadPart}, {out, Access::WritePart}},
         rows(op.getX()), [&](KernelBody &body) {
           kernel::TileScaleOp::create(body.b, body.buffers[0], body.buffers[1],
                                       body.scaled(body.begin, perToken),
                                       body.scaled(body.end, perToken), op.getFactor());
         });
  return success();
}

LogicalResult ScheduleBuilder::convert(SoftcapOp op) {
  // In place: where the product left its result, which is the logits array if this is the last.
  if (!op.getX().hasOneUse())
    return op.emitOpError("expects an operand that nothing else reads");
  Value x = buffer(op.getX());
  buffers[op.getResult()] = x;
  int64_t columns = cast<MemRefType>(x.getType()).getShape().back();
  launch(shapeName("softcap", {columns}), {{x, Access::UpdatePart}},
         panelsOf(op.getX(), columns), [&](KernelBody &body) {
           kernel::TileSoftcapOp::create(body.b, body.buffers[0],
                                         body.column(body.begin, columns),
                                         body.column(body.end, columns), body.tokens,
                                         op.getCap());
         });
  return success();
}

LogicalResult ScheduleBuilder::convert(TakeRowsOp op) {
  if (op.getIndices() != forward.getArgument(3))
    return op.emitOpError("expects the rows that the step wants as outputs");
  Value x = buffer(op.getX());
  // One row and one reader: each thread takes its own copy.
  bool repeated = single && llvm::all_of(op.getResult().getUsers(), [&](Operation *user) {
    return isa<RMSNormOp>(user) && replicable(user->getResult(0));
  });
  counts[op.getResult()] = outputCount;
  Value out = resultBuffer(op.getResult(), repeated);
  counts[op.getResult()] = outputCount;
  launch(shapeName("take_rows", rowsType(op.getX()).getShape().drop_front()),
         {{x, Access::Read}, {outputs, Access::Read}, {out, Access::WritePart}},
         rows(op.getResult(), repeated), [&](KernelBody &body) {
           kernel::TileTakeRowsOp::create(body.b, body.buffers[0], body.buffers[1],
                                          body.buffers[2], body.begin, body.end);
         });
  return success();
}

LogicalResult ScheduleBuilder::convert(ObserveOp op) {
  kernel::ObserveOp::create(b, buffer(op.getX()), op.getIndex(), countOf(op.getX()));
  return success();
}

LogicalResult ScheduleBuilder::convert(RouteOp op) {
  Value ids = resultBuffer(op.getIds()), weights = resultBuffer(op.getWeights());
  int64_t experts = rowsType(op.getLogits()).getShape().back();
  launch(shapeName("route", {experts, int64_t(op.getTopK())}),
         {{buffer(op.getLogits()), Access::ReadPart},
          {ids, Access::WritePart},
          {weights, Access::WritePart}},
         rows(op.getLogits()), [&](KernelBody &body) {
           kernel::TileRouteOp::create(body.b, body.buffers[0], body.buffers[1], body.buffers[2],
                                       body.begin, body.end, op.getNormalize());
         });
  return success();
}

LogicalResult ScheduleBuilder::convert(CombineExpertsOp op) {
  Value out = resultBuffer(op.getResult());
  launch(shapeName("combine_experts", rowsType(op.getX()).getShape().drop_front()),
         {{buffer(op.getX()), Access::ReadPart},
          {buffer(op.getWeights()), Access::ReadPart},
          {out, Access::WritePart}},
         rows(op.getX()), [&](KernelBody &body) {
           kernel::TileCombineExpertsOp::create(body.b, body.buffers[0], body.buffers[1],
                                                body.buffers[2], body.begin, body.end);
         });
  return success();
}

//===----------------------------------------------------------------------===//
// The walk
//===----------------------------------------------------------------------===//

LogicalResult ScheduleBuilder::convert(Operation *op) {
  b.setLoc(op->getLoc());
  return llvm::TypeSwitch<Operation *, LogicalResult>(op)
      .Case<EmbeddingOp, LinearOp, ExpertLinearOp, RMSNormOp, LayerNormOp, RopeOp, AttentionOp,
            GatedActivationOp, AddOp, ScaleOp, SoftcapOp, TakeRowsOp, ObserveOp, RouteOp,
            CombineExpertsOp>(
          [&](auto op) { return convert(op); })
      .Case<UseOp, func::ReturnOp>([](auto) { return success(); })
      .Default([](Operation *op) { return op->emitOpError("has no kernel"); });
}

LogicalResult ScheduleBuilder::run(StringRef name) {
  b.setInsertionPoint(forward);
  auto schedule = kernel::ScheduleOp::create(b, name, maxTokens, IntegerAttr(), IntegerAttr());
  b.setInsertionPointToStart(&schedule.getBody().emplaceBlock());
  tokenCount = kernel::StepCountOp::create(b, b.getIndexType(), kernel::StepCount::Tokens);
  outputCount = kernel::StepCountOp::create(b, b.getIndexType(), kernel::StepCount::Outputs);
  Value *arrays[] = {&tokens, &positions, &sequences, &outputs};
  const kernel::StepArray kinds[] = {kernel::StepArray::Tokens, kernel::StepArray::Positions,
                                     kernel::StepArray::Sequences, kernel::StepArray::Outputs};
  for (auto [array, kind] : llvm::zip(arrays, kinds))
    *array = arrayOf(kind, b.getI32Type(), {maxTokens});

  Operation *end = forward.getBody().front().getTerminator();
  logits = end->getOperand(0);
  if (auto cap = logits.getDefiningOp<SoftcapOp>())
    logits = cap.getX();
  for (Operation &op : forward.getBody().front())
    if (!done.contains(&op) && failed(convert(&op)))
      return failure();
  return success();
}

namespace {
struct QuernToKernels : quern::impl::QuernToKernelsPassBase<QuernToKernels> {
  using Base::Base;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto forward = module.lookupSymbol<func::FuncOp>("forward");
    if (!forward || forward.getNumArguments() != 5 || !forward.getBody().hasOneBlock()) {
      module.emitError("expects a function 'forward' of (tokens, positions, sequences, outputs, "
                       "cache), with one block");
      return signalPassFailure();
    }
    auto cache = dyn_cast<KvCacheType>(forward.getArgument(4).getType());
    if (!cache) {
      forward.emitError() << "expects a cache as its last argument, found "
                          << forward.getArgument(4).getType();
      return signalPassFailure();
    }
    int64_t many = std::min<int64_t>(maxTokens, cache.getContextLength());
    KernelOutliner outliner(module);
    WeightTable table;
    if (failed(ScheduleBuilder(forward, outliner, table, 1).run("step_one")))
      return signalPassFailure();
    if (many > 1 && failed(ScheduleBuilder(forward, outliner, table, many).run("step")))
      return signalPassFailure();
    kernels = llvm::range_size(module.getOps<func::FuncOp>()) - 1;
    forward.erase();
    for (Operation &op : llvm::make_early_inc_range(*module.getBody()))
      if (isa<WeightOp, FileOp>(op))
        op.erase();
  }
};
} // namespace
