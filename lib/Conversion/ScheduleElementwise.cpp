//===- ScheduleElementwise.cpp - Launches without weights -----------------===//
//
// Gates, sums, rows taken, and the routing of experts.
//
//===----------------------------------------------------------------------===//
#include "ScheduleBuilder.h"

using namespace mlir;
using namespace quern;
using kernel::Access;

LogicalResult ScheduleBuilder::convert(GatedActivationOp op) {
  Value gate = buffer(op.getGate()), up = buffer(op.getUp());
  Value out = resultBuffer(op.getResult());
  auto type = cast<MemRefType>(gate.getType());
  int64_t columns = type.getShape().back(), perToken = type.getNumElements() / columns / maxTokens;
  auto function = static_cast<kernel::GateFunction>(static_cast<int>(op.getFunction()));
  launch(shapeName("gated_" + kernel::stringifyGateFunction(function).str(), {columns}),
         {{gate, Access::ReadPart}, {up, Access::ReadPart}, {out, Access::WritePart}},
         panelsOf(op.getGate(), columns), [&](KernelBody &body) {
           kernel::TileGatedActivationOp::create(body.b, body.buffers[0], body.buffers[1],
                                                 body.buffers[2], body.column(body.begin, columns),
                                                 body.column(body.end, columns),
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

LogicalResult ScheduleBuilder::convert(ScaleChannelsOp op) {
  Value x = buffer(op.getX()), factors = weight(op.getFactors(), b.getF32Type());
  Value out = resultBuffer(op.getResult());
  auto type = cast<MemRefType>(x.getType());
  int64_t columns = type.getShape().back(), perToken = type.getNumElements() / columns / maxTokens;
  launch(shapeName("scale_channels", {columns}),
         {{x, Access::ReadPart}, {factors, Access::Read}, {out, Access::WritePart}},
         rows(op.getX()), [&](KernelBody &body) {
           kernel::TileScaleChannelsOp::create(
               body.b, body.buffers[0], body.buffers[1], body.buffers[2],
               body.scaled(body.begin, perToken), body.scaled(body.end, perToken));
         });
  return success();
}

LogicalResult ScheduleBuilder::convert(HadamardOp op) {
  Value x = buffer(op.getX());
  Value out = resultBuffer(op.getResult());
  auto type = cast<MemRefType>(x.getType());
  int64_t columns = type.getShape().back(), perToken = type.getNumElements() / columns / maxTokens;
  launch(shapeName("hadamard", {columns, int64_t(op.getBlock())}),
         {{x, Access::ReadPart}, {out, Access::WritePart}}, rows(op.getX()),
         [&](KernelBody &body) {
           kernel::TileHadamardOp::create(body.b, body.buffers[0], body.buffers[1],
                                          body.scaled(body.begin, perToken),
                                          body.scaled(body.end, perToken), op.getBlock());
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
  launch(shapeName("softcap", {columns}), {{x, Access::UpdatePart}}, panelsOf(op.getX(), columns),
         [&](KernelBody &body) {
           kernel::TileSoftcapOp::create(body.b, body.buffers[0], body.column(body.begin, columns),
                                         body.column(body.end, columns), body.tokens, op.getCap());
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
           kernel::TileTakeRowsOp::create(body.b, body.buffers[0], body.buffers[1], body.buffers[2],
                                          body.begin, body.end);
         });
  return success();
}

LogicalResult ScheduleBuilder::convert(ObserveOp op) {
  kernel::ObserveOp::create(b, buffer(op.getX()), op.getIndex(), countOf(op.getX()));
  return success();
}

LogicalResult ScheduleBuilder::convert(BoundaryOp op) {
  kernel::BoundaryOp::create(b, buffer(op.getX()), op.getIndex(), countOf(op.getX()));
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
