//===- LowerElementwise.cpp - Tiles without neighbours --------------------===//
//
// Gated activations, softcap, add, scale and row gathers.
//
//===----------------------------------------------------------------------===//
#include "TileLowering.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace quern;

/// f over columns [begin, end) of the first `rows` rows of buffers `length` long: vectors, then
/// single elements (the range is dynamic, and seldom ragged).
static void overColumns(TileEmitter &e, int64_t length, Value begin, Value end, Value rows,
                        TileEmitter::Chunk f) {
  unsigned lanes = e.lanes();
  Value span = e.sub(end, begin);
  Value whole = e.add(begin, e.sub(span, e.rem(span, e.index(lanes))));
  e.loop(e.index(0), rows, 1, [&](Value row) {
    Value base = e.mul(row, e.index(length));
    e.loop(begin, whole, lanes, [&](Value at) { f(e.add(base, at), lanes); });
    e.loop(whole, end, 1, [&](Value at) { f(e.add(base, at), 0); });
  });
}

/// f over whole rows [begin, end), which are one run of memory.
static void overRows(TileEmitter &e, int64_t length, Value begin, Value end, TileEmitter::Chunk f) {
  e.loop(begin, end, 1, [&](Value row) {
    Value base = e.mul(row, e.index(length));
    e.chunks(length, e.lanes(), [&](Value at, unsigned n) { f(e.add(base, at), n); });
  });
}

static Value activate(TileEmitter &e, kernel::GateFunction function, Value x) {
  switch (function) {
  case kernel::GateFunction::Silu:
    return e.mul(x, e.sigmoid(x));
  case kernel::GateFunction::GeluTanh: {
    // (1 + tanh(u)) / 2 is the sigmoid of 2u.
    Value cubic = e.mul(e.mul(x, x), e.constantLike(x, 0.044715f));
    Value inner = e.mul(x, e.add(cubic, e.constantLike(x, 1)));
    return e.mul(x, e.sigmoid(e.mul(inner, e.constantLike(x, 1.5957691216f))));
  }
  case kernel::GateFunction::Gelu: {
    Value erf = math::ErfOp::create(e.b, e.mul(x, e.constantLike(x, 0.70710678f)));
    return e.mul(e.mul(x, e.constantLike(x, 0.5f)), e.add(erf, e.constantLike(x, 1)));
  }
  }
  llvm_unreachable("all functions covered");
}

void quern::lowerTile(TileEmitter &e, kernel::TileGatedActivationOp op) {
  Value gate = e.flat(op.getGate()), up = e.flat(op.getUp()), out = e.flat(op.getOut());
  overColumns(e, rowLength(op.getGate()), op.getBegin(), op.getEnd(), op.getRows(),
              [&](Value at, unsigned n) {
                Value v = activate(e, op.getFunction(), e.load(gate, at, n));
                e.store(e.mul(v, e.load(up, at, n)), out, at);
              });
}

void quern::lowerTile(TileEmitter &e, kernel::TileSoftcapOp op) {
  Value x = e.flat(op.getX());
  float cap = op.getCap().convertToFloat();
  overColumns(e, rowLength(op.getX()), op.getBegin(), op.getEnd(), op.getRows(),
              [&](Value at, unsigned n) {
                Value v = e.load(x, at, n);
                v = math::TanhOp::create(e.b, e.mul(v, e.constantLike(v, 1 / cap)));
                e.store(e.mul(v, e.constantLike(v, cap)), x, at);
              });
}

void quern::lowerTile(TileEmitter &e, kernel::TileAddOp op) {
  Value a = e.flat(op.getA()), b = e.flat(op.getB()), out = e.flat(op.getOut());
  overRows(e, rowLength(op.getA()), op.getBegin(), op.getEnd(), [&](Value at, unsigned n) {
    e.store(e.add(e.load(a, at, n), e.load(b, at, n)), out, at);
  });
}

void quern::lowerTile(TileEmitter &e, kernel::TileScaleOp op) {
  Value x = e.flat(op.getX()), out = e.flat(op.getOut());
  float factor = op.getFactor().convertToFloat();
  overRows(e, rowLength(op.getX()), op.getBegin(), op.getEnd(), [&](Value at, unsigned n) {
    e.store(e.mul(e.load(x, at, n), e.splat(factor, n)), out, at);
  });
}

void quern::lowerTile(TileEmitter &e, kernel::TileScaleChannelsOp op) {
  Value x = e.flat(op.getX()), factors = e.flat(op.getFactors()), out = e.flat(op.getOut());
  int64_t length = rowLength(op.getX());
  e.loop(op.getBegin(), op.getEnd(), 1, [&](Value row) {
    Value base = e.mul(row, e.index(length));
    e.chunks(length, e.lanes(), [&](Value column, unsigned n) {
      Value at = e.add(base, column);
      e.store(e.mul(e.load(x, at, n), e.load(factors, column, n)), out, at);
    });
  });
}

void quern::lowerTile(TileEmitter &e, kernel::TileOutliersOp op) {
  Value x = e.flat(op.getX()), out = e.flat(op.getOut());
  float threshold = op.getThreshold().convertToFloat();
  overRows(e, rowLength(op.getX()), op.getBegin(), op.getEnd(), [&](Value at, unsigned n) {
    Value value = e.load(x, at, n);
    Value large = arith::CmpFOp::create(e.b, arith::CmpFPredicate::OGE,
                                        math::AbsFOp::create(e.b, value),
                                        e.constantLike(value, threshold));
    e.store(e.select(large, value, e.constantLike(value, 0)), out, at);
  });
}

void quern::lowerTile(TileEmitter &e, kernel::TileTakeColumnsOp op) {
  Value x = e.flat(op.getX()), indices = e.flat(op.getIndices()), out = e.flat(op.getOut());
  Value length = e.index(rowLength(op.getX()));
  e.loop(op.getBegin(), op.getEnd(), 1, [&](Value row) {
    Value start = e.mul(row, length);
    e.loop(e.index(0), length, 1, [&](Value column) {
      Value from = e.add(start, e.toIndex(e.loadRaw(indices, column)));
      e.store(e.load(x, from), out, e.add(start, column));
    });
  });
}

void quern::lowerTile(TileEmitter &e, kernel::TileTakeRowsOp op) {
  Value x = e.flat(op.getX()), indices = e.flat(op.getIndices()), out = e.flat(op.getOut());
  int64_t length = rowLength(op.getX());
  e.loop(op.getBegin(), op.getEnd(), 1, [&](Value row) {
    Value from = e.mul(e.toIndex(e.loadRaw(indices, row)), e.index(length));
    Value to = e.mul(row, e.index(length));
    e.chunks(length, e.lanes(), [&](Value at, unsigned n) {
      e.store(e.load(x, e.add(from, at), n), out, e.add(to, at));
    });
  });
}
