//===- LowerRope.cpp - Rotary embedding tiles -----------------------------===//
//
// Cosines and sines once per token and step, then the rotations of every layer.
//
//===----------------------------------------------------------------------===//
#include "TileLowering.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace quern;

static Value constant(TileEmitter &e, VectorType type, ArrayRef<double> values) {
  return arith::ConstantOp::create(e.b, DenseElementsAttr::get(type, values));
}

/// p(x) by Horner's rule, highest coefficient first; all in f64 vectors.
static Value horner(TileEmitter &e, VectorType type, Value x, ArrayRef<double> coefficients) {
  Value p = constant(e, type, {coefficients[0]});
  for (double c : coefficients.drop_front())
    p = e.fma(p, x, constant(e, type, {c}));
  return p;
}

/// cos and sin of f64 angles up to 2^31: reduced to |r| <= pi/4 by a two-part pi/2 (the error
/// of the second part is below 1e-21 of the quotient), Taylor to degree 14.
static std::pair<Value, Value> cosSin(TileEmitter &e, Value angle) {
  auto type = cast<VectorType>(angle.getType());
  auto intType = VectorType::get(type.getShape(), e.b.getI32Type());
  auto intConstant = [&](int32_t v) -> Value {
    return arith::ConstantOp::create(e.b, DenseElementsAttr::get(intType, v));
  };
  Value n = math::RoundEvenOp::create(e.b, e.mul(angle, constant(e, type, {M_2_PI})));
  Value r = e.fma(n, constant(e, type, {-0x1.921fb54442d18p+0}), angle);
  r = e.fma(n, constant(e, type, {-0x1.1a62633145c07p-54}), r);
  Value r2 = e.mul(r, r);
  Value cosine = horner(e, type, r2,
                        {-1.0 / 87178291200, 1.0 / 479001600, -1.0 / 3628800, 1.0 / 40320,
                         -1.0 / 720, 1.0 / 24, -0.5, 1});
  Value sine = horner(
      e, type, r2,
      {1.0 / 6227020800, -1.0 / 39916800, 1.0 / 362880, -1.0 / 5040, 1.0 / 120, -1.0 / 6, 1});
  sine = e.mul(sine, r);
  Value quadrant = arith::FPToSIOp::create(e.b, intType, n);
  auto bit = [&](Value v, int32_t mask) -> Value {
    return arith::CmpIOp::create(e.b, arith::CmpIPredicate::ne,
                                 arith::AndIOp::create(e.b, v, intConstant(mask)), intConstant(0));
  };
  Value odd = bit(quadrant, 1);
  Value c = e.select(odd, sine, cosine), s = e.select(odd, cosine, sine);
  Value flipC = bit(arith::AddIOp::create(e.b, quadrant, intConstant(1)), 2);
  Value flipS = bit(quadrant, 2);
  return {e.select(flipC, arith::NegFOp::create(e.b, c), c),
          e.select(flipS, arith::NegFOp::create(e.b, s), s)};
}

void quern::lowerTile(TileEmitter &e, kernel::TileRopeTableOp op) {
  Value positions = e.flat(op.getPositions()), out = e.flat(op.getOut());
  ArrayRef<float> frequencies = op.getFrequencies();
  int64_t pairs = frequencies.size(), width = e.lanes();
  float factor = op.getFactor().convertToFloat();
  e.loop(op.getBegin(), op.getEnd(), 1, [&](Value row) {
    Value base = e.mul(row, e.index(2 * pairs));
    Value position = arith::SIToFPOp::create(e.b, e.b.getF64Type(), e.loadRaw(positions, row));
    for (int64_t at = 0; at < pairs; at += width) {
      unsigned n = std::min(width, pairs - at);
      auto type = VectorType::get(n, e.b.getF64Type());
      SmallVector<double> f(frequencies.begin() + at, frequencies.begin() + at + n);
      Value angle = e.mul(e.broadcast(position, n), constant(e, type, f));
      auto [cosine, sine] = cosSin(e, angle);
      auto put = [&](Value v, int64_t offset) {
        v = e.mul(v, constant(e, type, {factor}));
        e.store(arith::TruncFOp::create(e.b, e.vec(n), v), out, e.add(base, e.index(offset)));
      };
      put(cosine, at);
      put(sine, pairs + at);
    }
  });
}

void quern::lowerTile(TileEmitter &e, kernel::TileRopeOp op) {
  Value x = e.flat(op.getX()), table = e.flat(op.getTable());
  int64_t headDim = rowLength(op.getX()) / op.getHeads(), dims = rowLength(op.getTable());
  int64_t pairs = dims / 2;
  e.loop(op.getBegin(), op.getEnd(), 1, [&](Value row) {
    Value base = e.mul(row, e.index(headDim));
    Value angles = e.mul(e.div(row, e.index(op.getHeads())), e.index(dims));
    auto turn = [&](Value a, Value b, Value at, unsigned n) {
      Value c = e.load(table, e.add(angles, at), n);
      Value s = e.load(table, e.add(angles, e.add(at, e.index(pairs))), n);
      return std::pair(e.sub(e.mul(a, c), e.mul(b, s)), e.add(e.mul(a, s), e.mul(b, c)));
    };
    e.chunks(pairs, e.lanes(), [&](Value at, unsigned n) {
      if (!op.getInterleaved()) {
        Value first = e.add(base, at), second = e.add(first, e.index(pairs));
        auto [a, b] = turn(e.load(x, first, n), e.load(x, second, n), at, n);
        e.store(a, x, first);
        e.store(b, x, second);
        return;
      }
      Value first = e.add(base, e.mul(at, e.index(2)));
      auto pairsOf = vector::DeinterleaveOp::create(e.b, e.load(x, first, 2 * n));
      auto [a, b] = turn(pairsOf.getRes1(), pairsOf.getRes2(), at, n);
      e.store(vector::InterleaveOp::create(e.b, a, b), x, first);
    });
  });
}
