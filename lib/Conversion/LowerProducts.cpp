//===- LowerProducts.cpp - Tiles that read packed weights -----------------===//
//
// Hands products to the linear emitter, and decodes embedding rows out of panels.
//
//===----------------------------------------------------------------------===//
#include "LinearWeights.h"
#include "TileLowering.h"
#include "quern/Conversion/LinearEmitter.h"
#include "quern/Dialect/Quern/IR/QuernAttributes.h"

using namespace mlir;
using namespace quern;
using namespace quern::conversion;

static conversion::Activation formOf(kernel::Activation form) {
  switch (form) {
  case kernel::Activation::F32:
    return conversion::Activation::F32;
  case kernel::Activation::BF16:
    return conversion::Activation::BF16;
  case kernel::Activation::Q8:
    return conversion::Activation::Q8;
  case kernel::Activation::Int8:
    return conversion::Activation::Int8;
  }
  llvm_unreachable("all forms covered");
}

static int64_t rowsOf(Value buffer) { return cast<MemRefType>(buffer.getType()).getDimSize(0); }

LogicalResult quern::lowerTile(TileEmitter &e, kernel::TileQuantizeOp op) {
  // Slices [tokens, experts, K] are rows too.
  Value x = op.getX();
  auto type = cast<MemRefType>(x.getType());
  int64_t length = rowLength(x);
  if (type.getRank() != 2) {
    SmallVector<int64_t> shape = {type.getNumElements() / length, length};
    x = memref::ReinterpretCastOp::create(e.b, MemRefType::get(shape, type.getElementType()), x,
                                          /*offset=*/int64_t(0), shape,
                                          ArrayRef<int64_t>{length, 1});
  }
  QuantizeActivations options;
  if (op.getStaticScale())
    options.constants = {op.getStaticScale()->convertToFloat(), int32_t(op.getStaticZero())};
  options.largestCode = op.getBits() == 4 ? 7 : 127;
  options.plain = op.getPlain();
  if (op.getOutlierThreshold())
    options.outlierThreshold = op.getOutlierThreshold()->convertToFloat();
  emitQuantizeActivations(e.b, op.getLoc(), formOf(op.getForm()), length, e.target, x, op.getOut(),
                          op.getBegin(), op.getEnd(), options);
  return success();
}

LogicalResult quern::lowerTile(TileEmitter &e, kernel::TileLinearOp op) {
  auto type = cast<RankedTensorType>(op.getWeightType());
  LinearDesc desc;
  desc.weight = getFormat(type);
  desc.n = type.getDimSize(0);
  desc.k = type.getDimSize(1);
  desc.activation = formOf(op.getForm());
  desc.bias = bool(op.getBias());
  desc.residual = bool(op.getResidual());
  desc.maxTokens = rowsOf(op.getOut());
  LinearOperands operands{op.getX(),   op.getWeight(), op.getBias(),  op.getResidual(),
                          op.getOut(), op.getTokens(), op.getBegin(), op.getEnd()};
  return emitLinear(e.b, op.getLoc(), desc, e.target, operands);
}

/// One token and expert at a time.
LogicalResult quern::lowerTile(TileEmitter &e, kernel::TileExpertLinearOp op) {
  auto type = cast<RankedTensorType>(op.getWeightType());
  LinearDesc desc;
  desc.weight = getFormat(type);
  desc.n = type.getDimSize(1);
  desc.k = type.getDimSize(2);
  desc.activation = formOf(op.getForm());
  auto layout = format::PackedLayout::get(desc.weight, desc.n, desc.k);
  if (!layout)
    return op.emitOpError() << llvm::toString(layout.takeError());
  int64_t used = rowLength(op.getExperts());
  int64_t rowElements = desc.activation == conversion::Activation::F32
                            ? desc.k
                            : ActivationLayout::get(desc.activation, desc.k).bytes;
  Value experts = e.flat(op.getExperts()), x = e.flat(op.getX()), out = e.flat(op.getOut());
  bool failed = false;
  // One row of a buffer, by a view of dynamic offset.
  auto rowOf = [&](Value flat, Value row, int64_t length, bool matrix) -> Value {
    Type element = cast<MemRefType>(flat.getType()).getElementType();
    SmallVector<int64_t> shape = {length}, strides = {1};
    if (matrix) {
      shape = {1, length};
      strides = {length, 1};
    }
    auto layoutAttr = StridedLayoutAttr::get(e.b.getContext(), ShapedType::kDynamic, strides);
    SmallVector<OpFoldResult> sizes, steps;
    for (auto [size, stride] : llvm::zip(shape, strides)) {
      sizes.push_back(e.b.getIndexAttr(size));
      steps.push_back(e.b.getIndexAttr(stride));
    }
    return memref::ReinterpretCastOp::create(e.b, MemRefType::get(shape, element, layoutAttr), flat,
                                             OpFoldResult(e.mul(row, e.index(length))), sizes,
                                             steps);
  };
  e.loop(e.index(0), e.mul(op.getTokens(), e.index(used)), 1, [&](Value pair) {
    Value expert = e.toIndex(e.loadRaw(experts, pair));
    Value row = op.getSliced() ? pair : e.div(pair, e.index(used));
    // The emitter's scratch lives in this scope, not in the loop's frame.
    auto scope = memref::AllocaScopeOp::create(e.b, TypeRange());
    OpBuilder::InsertionGuard guard(e.b);
    e.b.createBlock(&scope.getBodyRegion());
    LinearOperands operands;
    operands.x = rowOf(x, row, rowElements, desc.activation == conversion::Activation::F32);
    operands.weight = rowOf(op.getWeight(), expert, layout->bytes(), false);
    operands.out = rowOf(out, pair, desc.n, true);
    operands.tokenCount = e.index(1);
    operands.begin = op.getBegin();
    operands.end = op.getEnd();
    failed |= mlir::failed(emitLinear(e.b, op.getLoc(), desc, e.target, operands));
    memref::AllocaScopeReturnOp::create(e.b, ValueRange());
  });
  return failure(failed);
}

/// Decodes the 16 rows of a panel a step at a time and keeps the one asked for. The terms of a
/// sum are added up in `out`.
static void embedTerm(TileEmitter &e, kernel::TileEmbeddingOp op,
                      const format::PackedLayout &layout, bool addTo) {
  using namespace conversion::detail;
  constexpr int64_t rows = format::PackedLayout::panelRows;
  VectorCode v(e.b, op.getLoc(), e.target);
  WeightReader weights(v, layout, op.getTable());
  Value decoded = e.stack({layout.step * rows}, e.b.getF32Type());
  Value tokens = e.flat(op.getTokens()), out = e.flat(op.getOut());

  auto decode = [&](const StepPosition &at, Value lane, Value to) {
    for (Segment segment : segments(layout, at.columns, 0)) {
      SegmentLevels levels = weights.levels(at, segment);
      for (int64_t c = segment.begin; c < std::min(segment.end, at.present); ++c)
        for (auto [part, value] : llvm::enumerate(weights.column(at, c, levels)))
          v.store(value, decoded, v.index(0), c * rows + part * v.width);
    }
    weights.forget();
    e.loop(e.index(0), e.index(at.present), 1, [&](Value c) {
      Value value = e.load(decoded, e.add(e.mul(c, e.index(rows)), lane));
      Value place = e.add(to, c);
      e.store(addTo ? e.add(e.load(out, place), value) : value, out, place);
    });
  };
  e.loop(op.getBegin(), op.getEnd(), 1, [&](Value row) {
    Value token = e.toIndex(e.loadRaw(tokens, row));
    Value panel = e.div(token, e.index(rows)), lane = e.rem(token, e.index(rows));
    Value to = e.mul(row, e.index(layout.k));
    Value full = e.index(layout.fullSteps());
    e.loop(e.index(0), full, 1, [&](Value i) {
      decode(weights.position(panel, i, false), lane, e.add(to, e.mul(i, e.index(layout.step))));
    });
    if (layout.tailColumns())
      decode(weights.position(panel, full, true), lane,
             e.add(to, e.index(layout.fullSteps() * layout.step)));
  });
}

LogicalResult quern::lowerTile(TileEmitter &e, kernel::TileEmbeddingOp op) {
  auto type = cast<RankedTensorType>(op.getTableType());
  auto layout = format::PackedLayout::get(getFormat(type), type.getDimSize(0), type.getDimSize(1));
  if (!layout)
    return op.emitOpError() << llvm::toString(layout.takeError());
  ArrayRef<format::PackedLayout> terms = *layout;
  if (!layout->terms.empty())
    terms = layout->terms;
  for (const format::PackedLayout &term : terms)
    embedTerm(e, op, term, &term != terms.begin());
  return success();
}
