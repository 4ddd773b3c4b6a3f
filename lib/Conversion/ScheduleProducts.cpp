//===- ScheduleProducts.cpp - Launches of products with weights -----------===//
//
// Embeddings, linears and their residual sums, linears of experts.
//
//===----------------------------------------------------------------------===//
#include "ScheduleBuilder.h"
#include "quern/Format/PackedLayout.h"

using namespace mlir;
using namespace quern;
using kernel::Access;

FailureOr<ScheduleBuilder::Form> ScheduleBuilder::formOf(ActivationFormat format, Value weight) {
  auto type = cast<RankedTensorType>(weight.getType());
  switch (format) {
  case ActivationFormat::F32:
    return Form{kernel::Activation::F32};
  case ActivationFormat::BF16:
    return Form{kernel::Activation::BF16};
  case ActivationFormat::Int8:
    return Form{kernel::Activation::Int8};
  case ActivationFormat::Q8:
    return Form{kernel::Activation::Q8};
  case ActivationFormat::Int4:
    return Form{kernel::Activation::Int8, 4};
  case ActivationFormat::Q4:
    return Form{kernel::Activation::Q8, 4};
  case ActivationFormat::Fast: {
    int64_t rank = type.getRank();
    auto layout = format::PackedLayout::get(getFormat(type), type.getDimSize(rank - 2),
                                            type.getDimSize(rank - 1));
    if (!layout)
      return mlir::emitError(b.getLoc()) << llvm::toString(layout.takeError());
    return Form{static_cast<kernel::Activation>(
        static_cast<int>(conversion::fastActivation(target, *layout)))};
  }
  }
  llvm_unreachable("all formats covered");
}

LogicalResult ScheduleBuilder::convert(EmbeddingOp op) {
  MemRefType type;
  FailureOr<Value> matrix = panels(op.getTable(), type);
  if (failed(matrix))
    return failure();
  Value out = resultBuffer(op.getResult());
  Type tableType = op.getTable().getType();
  if (getFormat(cast<RankedTensorType>(tableType)).kind == format::Spec::Kind::Split)
    return op.emitOpError("reads rows of a column split, which only products can");
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
         llvm::all_of(residual.getUsers(),
                      [&](Operation *user) { return user == sum || user->isBeforeInBlock(op); });
}

LogicalResult ScheduleBuilder::convert(LinearOp op) {
  MemRefType type;
  FailureOr<Value> matrix = panels(op.getWeight(), type);
  if (failed(matrix))
    return failure();
  FailureOr<Form> form = formOf(op.getActivations(), op.getWeight());
  if (failed(form))
    return failure();
  form->staticScale = op.getStaticScaleAttr();
  form->staticZero = op.getStaticZero();
  bool isInteger = form->kind == kernel::Activation::Int8 || form->kind == kernel::Activation::Q8;
  if (isInteger)
    form->outlierThreshold = op.getOutlierThresholdAttr();
  Value x = activations(op.getX(), *form, op.getWeight()), large;
  if (form->outlierThreshold)
    large = outliers(op.getX(), form->outlierThreshold);
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
    for (int number = 0; number < int(forms.size()); ++number)
      quantized.erase({out, number});
  } else {
    out = resultBuffer(op.getResult());
  }
  SmallVector<BufferUse> uses = {{x, Access::Read}, {*matrix, Access::Read}};
  if (op.getBias())
    uses.push_back({weight(op.getBias(), b.getF32Type()), Access::Read});
  uses.push_back({out, joined ? Access::UpdatePart : Access::WritePart});
  auto weightType = cast<RankedTensorType>(op.getWeight().getType());
  auto product = [&](kernel::Activation kind, bool bias, bool addsToOut) {
    launch(shapeName("linear_" + kernel::stringifyActivation(kind).str(), weightType.getShape()),
           uses, panelsOf(op.getX(), weightType.getDimSize(0)), [&](KernelBody &body) {
             Value out = body.buffers.back();
             kernel::TileLinearOp::create(body.b, body.buffers[0], body.buffers[1],
                                          bias ? body.buffers[2] : Value(),
                                          addsToOut ? out : Value(), out, body.begin, body.end,
                                          body.tokens, weightType, kind);
           });
  };
  product(form->kind, bool(op.getBias()), joined);
  if (!large)
    return success();
  uses = {{large, Access::Read}, {*matrix, Access::Read}, {out, Access::UpdatePart}};
  product(kernel::Activation::F32, false, true);
  return success();
}

LogicalResult ScheduleBuilder::convert(ExpertLinearOp op) {
  if (getFormat(cast<RankedTensorType>(op.getWeight().getType())).kind == format::Spec::Kind::Split)
    return op.emitOpError("multiplies by experts that are column splits, which each have an order "
                          "of their own");
  MemRefType type;
  FailureOr<Value> matrix = panels(op.getWeight(), type);
  if (failed(matrix))
    return failure();
  FailureOr<Form> form = formOf(op.getActivations(), op.getWeight());
  if (failed(form))
    return failure();
  Value x = activations(op.getX(), *form, op.getWeight());
  Value out = resultBuffer(op.getResult());
  auto weightType = cast<RankedTensorType>(op.getWeight().getType());
  bool sliced = cast<ShapedType>(op.getX().getType()).getRank() == 3;
  launch(
      shapeName("expert_linear_" + kernel::stringifyActivation(form->kind).str(),
                weightType.getShape()),
      {{x, Access::Read},
       {*matrix, Access::Read},
       {buffer(op.getIds()), Access::Read},
       {out, Access::WritePart}},
      panelsOf(op.getX(), weightType.getDimSize(1)), [&](KernelBody &body) {
        kernel::TileExpertLinearOp::create(body.b, body.buffers[0], body.buffers[1],
                                           body.buffers[2], body.buffers[3], body.begin, body.end,
                                           body.tokens, weightType, form->kind, sliced);
      });
  return success();
}
