//===- LowerStoreKv.cpp - New keys and values into the cache --------------===//
//
// Keys are scattered into blocks of 16 positions, values stored as rows; see TileOps.td.
//
//===----------------------------------------------------------------------===//
#include "TileLowering.h"

using namespace mlir;
using namespace quern;
using kernel::cacheGroup;
using kernel::keyLanes;

/// Codes `count` values at `from` as integers up to `limit` into `codes` (stack, i8); returns the
/// scale. The arithmetic is that of lib/Reference/Activations.cpp, bit for bit.
static Value quantizeGroup(TileEmitter &e, Value x, Value from, Value codes, int64_t count,
                           float limit) {
  unsigned lanes = e.lanes();
  auto intType = VectorType::get(lanes, e.b.getI32Type());
  auto constant = [&](uint32_t v) -> Value {
    return arith::ConstantOp::create(e.b, DenseElementsAttr::get(intType, int32_t(v)));
  };
  SmallVector<Value> values;
  Value largest = constant(0x0D800000); // 2^-100: no division by zero, no branch
  for (int64_t at = 0; at < count; at += lanes) {
    values.push_back(e.load(x, e.add(from, e.index(at)), lanes));
    Value bits = arith::BitcastOp::create(e.b, intType, values.back());
    bits = arith::AndIOp::create(e.b, bits, constant(0x7FFFFFFF));
    largest = arith::MaxUIOp::create(e.b, largest, bits);
  }
  Value bits = vector::ReductionOp::create(e.b, vector::CombiningKind::MAXUI, largest);
  Value absMax = arith::BitcastOp::create(e.b, e.b.getF32Type(), bits);
  Value inverse = e.broadcast(e.div(e.f32(limit), absMax), lanes);
  auto byteType = VectorType::get(lanes, e.b.getI8Type());
  // 1.5 x 2^23 rounds to nearest even in its lowest bits, and is defined for NaN too.
  Value magic = e.splat(12582912.0f, lanes);
  for (auto [i, v] : llvm::enumerate(values)) {
    Value rounded = arith::BitcastOp::create(e.b, intType, e.add(e.mul(v, inverse), magic));
    e.storeRaw(arith::TruncIOp::create(e.b, byteType, rounded), codes, e.index(i * lanes));
  }
  return e.div(absMax, e.f32(limit));
}

/// Two codes of 4 bits in each byte.
static Value packNibbles(TileEmitter &e, Value low, Value high) {
  auto constant = [&](int8_t v) -> Value {
    Type type = low.getType();
    TypedAttr attr = e.b.getI8IntegerAttr(v);
    if (auto vector = dyn_cast<VectorType>(type))
      attr = DenseElementsAttr::get(vector, v);
    return arith::ConstantOp::create(e.b, attr);
  };
  return arith::OrIOp::create(e.b, arith::AndIOp::create(e.b, low, constant(15)),
                              arith::ShLIOp::create(e.b, high, constant(4)));
}

void quern::lowerTile(TileEmitter &e, kernel::TileStoreKvOp op) {
  Value k = e.flat(op.getK()), v = e.flat(op.getV());
  Value kCache = e.flat(op.getKCache()), vCache = e.flat(op.getVCache());
  Value positions = e.flat(op.getPositions()), sequences = e.flat(op.getSequences());
  int64_t heads = op.getKvHeads(), dim = rowLength(op.getK()) / heads, capacity = op.getCapacity();
  int64_t slot = rowLength(op.getKCache());
  bool coded = bool(op.getKScales()), nibbles = op.getCodeBits() == 4;
  Value kScales, vScales, codes;
  if (coded) {
    kScales = e.flat(op.getKScales());
    vScales = e.flat(op.getVScales());
    codes = e.stack({nibbles ? dim : cacheGroup}, e.b.getI8Type());
  }
  e.loop(op.getBegin(), op.getEnd(), 1, [&](Value row) {
    Value head = e.rem(row, e.index(heads)), token = e.div(row, e.index(heads));
    Value sequence = e.toIndex(e.loadRaw(sequences, token));
    Value position = e.toIndex(e.loadRaw(positions, token));
    Value from = e.mul(row, e.index(dim));
    Value inSlot = e.mul(sequence, e.index(slot));
    Value line = e.add(e.mul(head, e.index(capacity)), position); // [head][position]
    Value lane = e.rem(position, e.index(keyLanes));
    Value block = e.sub(line, lane);         // 16 x [head][position / 16]
    int64_t width = nibbles ? dim / 2 : dim; // elements of a head
    Value keys = e.add(e.add(inSlot, e.mul(block, e.index(width))), lane);
    Value values = e.add(inSlot, e.mul(line, e.index(width)));
    if (!coded) {
      e.loop(e.index(0), e.index(dim), 1, [&](Value d) {
        e.store(e.load(k, e.add(from, d)), kCache, e.add(keys, e.mul(d, e.index(keyLanes))));
      });
      e.chunks(dim, e.lanes(), [&](Value at, unsigned n) {
        e.store(e.load(v, e.add(from, at), n), vCache, e.add(values, at));
      });
      return;
    }
    Value scaleSlot = e.mul(sequence, e.index(rowLength(op.getKScales())));
    if (nibbles) {
      Value scale = quantizeGroup(e, k, from, codes, dim, 7);
      e.store(scale, kScales, e.add(e.add(scaleSlot, block), lane));
      e.loop(e.index(0), e.index(dim / 2), 1, [&](Value pair) {
        Value d = e.add(pair, pair);
        Value byte = packNibbles(e, e.loadRaw(codes, d), e.loadRaw(codes, e.add(d, e.index(1))));
        e.storeRaw(byte, kCache, e.add(keys, e.mul(pair, e.index(keyLanes))));
      });
      scale = quantizeGroup(e, v, from, codes, dim, 7);
      e.store(scale, vScales, e.add(scaleSlot, line));
      constexpr int64_t half = cacheGroup / 2;
      e.loop(e.index(0), e.index(dim / 2), half, [&](Value at) {
        Value d = e.add(at, at);
        Value bytes = packNibbles(e, e.loadRaw(codes, d, half),
                                  e.loadRaw(codes, e.add(d, e.index(half)), half));
        e.storeRaw(bytes, vCache, e.add(values, at));
      });
      return;
    }
    int64_t groups = dim / cacheGroup;
    Value kScaleAt = e.add(e.add(scaleSlot, e.mul(block, e.index(groups))), lane);
    Value vScaleAt = e.add(scaleSlot, e.mul(line, e.index(groups)));
    e.loop(e.index(0), e.index(groups), 1, [&](Value g) {
      Value at = e.mul(g, e.index(cacheGroup));
      Value scale = quantizeGroup(e, k, e.add(from, at), codes, cacheGroup, 127);
      e.store(scale, kScales, e.add(kScaleAt, e.mul(g, e.index(keyLanes))));
      e.loop(e.index(0), e.index(cacheGroup), 1, [&](Value d) {
        Value to = e.add(keys, e.mul(e.add(at, d), e.index(keyLanes)));
        e.storeRaw(e.loadRaw(codes, d), kCache, to);
      });
      scale = quantizeGroup(e, v, e.add(from, at), codes, cacheGroup, 127);
      e.store(scale, vScales, e.add(vScaleAt, g));
      e.storeRaw(e.loadRaw(codes, e.index(0), cacheGroup), vCache, e.add(values, at));
    });
  });
}
