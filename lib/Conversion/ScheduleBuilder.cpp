//===- ScheduleBuilder.cpp - Buffers, weights and the walk ----------------===//
//
// What all operations share: where values lie, what is quantized or tabulated once, and the walk
// over forward.
//
//===----------------------------------------------------------------------===//
#include "ScheduleBuilder.h"
#include "quern/Format/PackedLayout.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace quern;
using kernel::Access;
using kernel::Domain;

std::string quern::shapeName(StringRef stem, ArrayRef<int64_t> shape) {
  std::string name = stem.str();
  for (auto [i, size] : llvm::enumerate(shape))
    name += (i ? "x" : "_") + std::to_string(size);
  return name;
}

static conversion::Activation layoutForm(kernel::Activation form) {
  return static_cast<conversion::Activation>(static_cast<int>(form));
}
static_assert(int(conversion::Activation::F32) == int(kernel::Activation::F32) &&
              int(conversion::Activation::BF16) == int(kernel::Activation::BF16) &&
              int(conversion::Activation::Q8) == int(kernel::Activation::Q8) &&
              int(conversion::Activation::Int8) == int(kernel::Activation::Int8));

MemRefType ScheduleBuilder::rowsType(Value tensor) {
  auto type = cast<RankedTensorType>(tensor.getType());
  SmallVector<int64_t> shape(type.getShape());
  shape[0] = maxTokens;
  return MemRefType::get(shape, type.getElementType());
}

Value ScheduleBuilder::resultBuffer(Value tensor, bool isPrivate) {
  Value result = tensor == logits ? arrayOf(kernel::StepArray::Logits, b.getF32Type(),
                                            rowsType(tensor).getShape())
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

/// x with its columns in the order of a split's.
Value ScheduleBuilder::takeColumns(Value tensor, Value use) {
  auto op = symbols.lookup<WeightOp>(use.getDefiningOp<UseOp>().getWeight());
  RankedTensorType type = op.getTensorType();
  int64_t k = type.getDimSize(1);
  auto layout = llvm::cantFail(
      format::PackedLayout::get(getFormat(type), type.getDimSize(0), k)); // as in `panels`
  int64_t index = table.insert({op.getSymName(), int64_t(table.size())}).first->second;
  Value columns = kernel::WeightOp::create(b, MemRefType::get({k}, b.getI32Type()), index,
                                           op.getSymName(), layout.permutationStart);
  Value x = buffer(tensor), out = newBuffer(cast<MemRefType>(x.getType()));
  launch(shapeName("take_columns", {k}),
         {{x, Access::Read}, {columns, Access::Read}, {out, Access::WritePart}}, rows(tensor),
         [&](KernelBody &body) {
           kernel::TileTakeColumnsOp::create(body.b, body.buffers[0], body.buffers[1],
                                             body.buffers[2], body.begin, body.end);
         });
  return out;
}

Value &ScheduleBuilder::inForm(Value x, const Form &form) {
  auto known = llvm::find(forms, form);
  int number = int(known - forms.begin());
  if (known == forms.end())
    forms.push_back(form);
  return quantized[{x, number}];
}

Value ScheduleBuilder::activations(Value tensor, const Form &form, Value weight) {
  const format::Spec &format = getFormat(cast<RankedTensorType>(weight.getType()));
  bool isSplit = format.kind == format::Spec::Kind::Split;
  Value x = isSplit ? takeColumns(tensor, weight) : buffer(tensor);
  if (form.kind == kernel::Activation::F32)
    return x;
  Value &result = inForm(x, form);
  if (result)
    return result;
  auto type = cast<MemRefType>(x.getType());
  int64_t k = type.getShape().back(), perToken = type.getNumElements() / k / maxTokens;
  auto layout = conversion::ActivationLayout::get(layoutForm(form.kind), k, format);
  int64_t bytes = layout.bytes;
  result = newBuffer(MemRefType::get({maxTokens * perToken * bytes}, b.getI8Type()), single);
  Access access = single || isSplit ? Access::Read : Access::ReadPart;
  std::string name = "quantize_" + kernel::stringifyActivation(form.kind).str();
  launch(shapeName(form.bits == 8 ? name : name + "_" + std::to_string(form.bits) + "bit", {k}),
         {{x, access}, {result, Access::WritePart}}, rows(tensor, single), [&](KernelBody &body) {
           kernel::TileQuantizeOp::create(
               body.b, body.buffers[0], body.buffers[1], body.scaled(body.begin, perToken),
               body.scaled(body.end, perToken), form.kind, form.staticScale,
               form.outlierThreshold, form.staticZero, form.bits, layout.plain);
         });
  return result;
}

Value ScheduleBuilder::outliers(Value tensor, FloatAttr threshold) {
  Value x = buffer(tensor);
  Form form{kernel::Activation::F32, 8, {}, threshold};
  Value &result = inForm(x, form);
  if (result)
    return result;
  auto type = cast<MemRefType>(x.getType());
  int64_t k = type.getShape().back(), perToken = type.getNumElements() / k / maxTokens;
  result = newBuffer(type);
  launch(shapeName("outliers", {k}), {{x, Access::ReadPart}, {result, Access::WritePart}},
         rows(tensor), [&](KernelBody &body) {
           kernel::TileOutliersOp::create(body.b, body.buffers[0], body.buffers[1],
                                          body.scaled(body.begin, perToken),
                                          body.scaled(body.end, perToken), threshold);
         });
  return result;
}

Value ScheduleBuilder::ropeTable(RopeAttr rope) {
  Value &result = ropeTables[rope];
  if (result)
    return result;
  int64_t pairs = rope.getFrequencies().size();
  result = newBuffer(MemRefType::get({maxTokens, 2 * pairs}, b.getF32Type()), single);
  launch(shapeName("rope_table", {pairs}), {{positions, Access::Read}, {result, Access::WritePart}},
         {Domain::Rows, tokenCount, tokenCount, single}, [&](KernelBody &body) {
           kernel::TileRopeTableOp::create(body.b, body.buffers[0], body.buffers[1], body.begin,
                                           body.end, rope.getFrequencies(),
                                           APFloat(rope.getFactor()));
         });
  return result;
}

LogicalResult ScheduleBuilder::convert(Operation *op) {
  b.setLoc(op->getLoc());
  return llvm::TypeSwitch<Operation *, LogicalResult>(op)
      .Case<EmbeddingOp, LinearOp, ExpertLinearOp, RMSNormOp, LayerNormOp, RopeOp, AttentionOp,
            GatedActivationOp, AddOp, ScaleOp, ScaleChannelsOp, HadamardOp, SoftcapOp, TakeRowsOp, ObserveOp,
            BoundaryOp, RouteOp, CombineExpertsOp>([&](auto op) { return convert(op); })
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
  // Tables that layers share cannot be made in one of them, which may be skipped.
  if (!forward.getOps<BoundaryOp>().empty())
    for (RopeOp rope : forward.getOps<RopeOp>())
      ropeTable(rope.getRope());
  for (Operation &op : forward.getBody().front())
    if (!done.contains(&op) && failed(convert(&op)))
      return failure();
  return success();
}
