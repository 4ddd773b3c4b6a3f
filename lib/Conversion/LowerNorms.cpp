//===- LowerNorms.cpp - rms_norm and layer_norm tiles ---------------------===//
//
// Two passes over a row that stays in the first-level cache: statistics, then scaling.
//
//===----------------------------------------------------------------------===//
#include "TileLowering.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace quern;

static Value reciprocalRoot(TileEmitter &e, Value meanSquare, float epsilon) {
  Value root = math::SqrtOp::create(e.b, e.add(meanSquare, e.f32(epsilon)));
  return e.div(e.f32(1), root);
}

void quern::lowerTile(TileEmitter &e, kernel::TileRmsNormOp op) {
  Value x = e.flat(op.getX()), gain = e.flat(op.getGain()), out = e.flat(op.getOut());
  int64_t length = cast<MemRefType>(op.getGain().getType()).getNumElements();
  float epsilon = op.getEpsilon().convertToFloat();
  e.loop(op.getBegin(), op.getEnd(), 1, [&](Value row) {
    Value base = e.mul(row, e.index(length));
    Value squares = e.sumOver(length, [&](Value at, unsigned n) {
      Value v = e.load(x, e.add(base, at), n);
      return e.mul(v, v);
    });
    Value scale = reciprocalRoot(e, e.mul(squares, e.f32(1.0f / length)), epsilon);
    e.chunks(length, e.lanes(), [&](Value at, unsigned n) {
      Value g = e.load(gain, at, n);
      if (op.getUnitOffset())
        g = e.add(g, e.splat(1, n));
      Value v = e.mul(e.load(x, e.add(base, at), n), e.broadcast(scale, n));
      e.store(e.mul(v, g), out, e.add(base, at));
    });
  });
}

void quern::lowerTile(TileEmitter &e, kernel::TileLayerNormOp op) {
  Value x = e.flat(op.getX()), gain = e.flat(op.getGain()), out = e.flat(op.getOut());
  Value bias = op.getBias() ? e.flat(op.getBias()) : Value();
  int64_t length = cast<MemRefType>(op.getGain().getType()).getNumElements();
  float epsilon = op.getEpsilon().convertToFloat();
  e.loop(op.getBegin(), op.getEnd(), 1, [&](Value row) {
    Value base = e.mul(row, e.index(length));
    auto load = [&](Value at, unsigned n) { return e.load(x, e.add(base, at), n); };
    Value mean = e.mul(e.sumOver(length, load), e.f32(1.0f / length));
    Value squares = e.sumOver(length, [&](Value at, unsigned n) {
      Value v = e.sub(load(at, n), e.broadcast(mean, n));
      return e.mul(v, v);
    });
    Value scale = reciprocalRoot(e, e.mul(squares, e.f32(1.0f / length)), epsilon);
    e.chunks(length, e.lanes(), [&](Value at, unsigned n) {
      Value v = e.sub(load(at, n), e.broadcast(mean, n));
      v = e.mul(e.mul(v, e.broadcast(scale, n)), e.load(gain, at, n));
      if (bias)
        v = e.add(v, e.load(bias, at, n));
      e.store(v, out, e.add(base, at));
    });
  });
}
