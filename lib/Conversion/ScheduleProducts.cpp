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

FailureOr<kernel::Activation> ScheduleBuilder::formOf(ActivationFormat format, Value weight) {
  auto type = cast<RankedTensorType>(weight.getType());
  switch (format) {
  case ActivationFormat::F32:
    return kernel::Activation::F32;
  case ActivationFormat::BF16:
    return kernel::Activation::BF16;
  case ActivationFormat::Int8:
    return kernel::Activation::Int8;
  case ActivationFormat::Q8:
    return kernel::Activation::Q8;
  case ActivationFormat::Fast: {
    int64_t rank = type.getRank();
    auto layout = format::PackedLayout::get(getFormat(type), type.getDimSize(rank - 2),
                                            type.getDimSize(rank - 1));
    if (!layout)
      return mlir::emitError(b.getLoc()) << llvm::toString(layout.takeError());
    return static_cast<kernel::Activation>(
        static_cast<int>(conversion::fastActivation(target, *layout)));
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
  FailureOr<kernel::Activation> form = formOf(op.getActivations(), op.getWeight());
  if (failed(form))
    return failure();
  Value x =
      activations(op.getX(), *form, op.getWeight(), op.getStaticScaleAttr(), op.getStaticZero());
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
    int forms = kernel::getMaxEnumValForActivation() + 1 + int(staticForms.size());
    for (int form = 0; form < forms; ++form)
      quantized.erase({out, form});
  } else {
    out = resultBuffer(op.getResult());
  }
  SmallVector<BufferUse> uses = {{x, Access::Read}, {*matrix, Access::Read}};
  if (op.getBias())
    uses.push_back({weight(op.getBias(), b.getF32Type()), Access::Read});
  uses.push_back({out, joined ? Access::UpdatePart : Access::WritePart});
  auto weightType = cast<RankedTensorType>(op.getWeight().getType());
  launch(shapeName("linear_" + kernel::stringifyActivation(*form).str(), weightType.getShape()),
         uses, panelsOf(op.getX(), weightType.getDimSize(0)), [&](KernelBody &body) {
           Value out = body.buffers.back();
           kernel::TileLinearOp::create(
               body.b, body.buffers[0], body.buffers[1], op.getBias() ? body.buffers[2] : Value(),
               joined ? out : Value(), out, body.begin, body.end, body.tokens, weightType, *form);
         });
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
  FailureOr<kernel::Activation> form = formOf(op.getActivations(), op.getWeight());
  if (failed(form))
    return failure();
  Value x = activations(op.getX(), *form, op.getWeight());
  Value out = resultBuffer(op.getResult());
  auto weightType = cast<RankedTensorType>(op.getWeight().getType());
  bool sliced = cast<ShapedType>(op.getX().getType()).getRank() == 3;
  launch(
      shapeName("expert_linear_" + kernel::stringifyActivation(*form).str(), weightType.getShape()),
      {{x, Access::Read},
       {*matrix, Access::Read},
       {buffer(op.getIds()), Access::Read},
       {out, Access::WritePart}},
      panelsOf(op.getX(), weightType.getDimSize(1)), [&](KernelBody &body) {
        kernel::TileExpertLinearOp::create(body.b, body.buffers[0], body.buffers[1],
                                           body.buffers[2], body.buffers[3], body.begin, body.end,
                                           body.tokens, weightType, *form, sliced);
      });
  return success();
}
