//===- LowerHadamard.cpp - The fast Hadamard transform --------------------===//
//
// log2(block) stages of sums and differences, the pairs at distance 1 first. Up to 16 vectors
// stay in registers; pairs farther apart go through the result in memory.
//
//===----------------------------------------------------------------------===//
#include "TileLowering.h"
#include "quern/Reference/Hadamard.h"
#include <cmath>

using namespace mlir;
using namespace quern;

/// Within one vector: lane i gets a + b or a - b of the pair (i, i ^ distance).
static Value stageInVector(TileEmitter &e, Value v, int64_t lanes, int64_t distance) {
  SmallVector<int64_t> partner(lanes);
  SmallVector<float> signs(lanes);
  for (int64_t i = 0; i < lanes; ++i) {
    partner[i] = i ^ distance;
    signs[i] = i & distance ? -1.0f : 1.0f;
  }
  Value other = vector::ShuffleOp::create(e.b, v, v, partner);
  Value sign = arith::ConstantOp::create(
      e.b, DenseElementsAttr::get(cast<VectorType>(v.getType()), ArrayRef<float>(signs)));
  return e.add(other, e.mul(v, sign)); // times 1 or -1 is exact
}

/// Vectors `stride` apart, `outer` of them from `first` on, by the matrix of that size: with s = a
/// + b and d = a - b of the halves a and b, these become C s + d and C d - s.
static void rotateRuns(TileEmitter &e, Value out, Value first, int64_t outer, int64_t stride,
                       int64_t lanes, Value factor) {
  int64_t half = outer / 2;
  SmallVector<Value> sums, differences;
  auto at = [&](int64_t i) { return e.add(first, e.index(i * stride)); };
  for (int64_t i = 0; i < half; ++i) {
    Value a = e.load(out, at(i), lanes), b = e.load(out, at(half + i), lanes);
    sums.push_back(e.add(a, b));
    differences.push_back(e.sub(a, b));
  }
  for (int64_t i = 0; i < half; ++i) {
    Value low = differences[i], high = e.sub(e.splat(-0.0f, lanes), sums[i]);
    for (int64_t j = 0; j < half; ++j)
      if (int sign = reference::conference(outer, i, j)) {
        low = sign > 0 ? e.add(low, sums[j]) : e.sub(low, sums[j]);
        high = sign > 0 ? e.add(high, differences[j]) : e.sub(high, differences[j]);
      }
    e.store(e.mul(low, factor), out, at(i));
    e.store(e.mul(high, factor), out, at(half + i));
  }
}

void quern::lowerTile(TileEmitter &e, kernel::TileHadamardOp op) {
  Value x = e.flat(op.getX()), out = e.flat(op.getOut());
  int64_t length = rowLength(op.getX()), size = op.getBlock();
  int64_t outer = reference::hadamardFactor(size), block = size / outer;
  int64_t lanes = std::min<int64_t>(e.lanes(), block);
  int64_t chunk = std::min<int64_t>(block, 16 * lanes);
  Value factor = e.splat(float(1.0 / std::sqrt(double(size))), lanes);
  e.loop(op.getBegin(), op.getEnd(), 1, [&](Value row) {
    Value base = e.mul(row, e.index(length));
    e.loop(base, e.add(base, e.index(length)), chunk, [&](Value at) {
      SmallVector<Value> v;
      for (int64_t i = 0; i < chunk; i += lanes)
        v.push_back(e.load(x, e.add(at, e.index(i)), lanes));
      for (int64_t distance = 1; distance < lanes; distance *= 2)
        for (Value &one : v)
          one = stageInVector(e, one, lanes, distance);
      for (size_t distance = 1; distance < v.size(); distance *= 2)
        for (size_t i = 0; i < v.size(); ++i)
          if (!(i & distance)) {
            Value a = v[i], b = v[i + distance];
            v[i] = e.add(a, b);
            v[i + distance] = e.sub(a, b);
          }
      for (auto [i, one] : llvm::enumerate(v))
        e.store(chunk == size ? e.mul(one, factor) : one, out,
                e.add(at, e.index(int64_t(i) * lanes)));
    });
    for (int64_t distance = chunk; distance < block; distance *= 2) {
      bool last = distance * 2 == size;
      e.loop(base, e.add(base, e.index(length)), 2 * distance, [&](Value at) {
        e.loop(at, e.add(at, e.index(distance)), lanes, [&](Value low) {
          Value high = e.add(low, e.index(distance));
          Value a = e.load(out, low, lanes), b = e.load(out, high, lanes);
          Value sum = e.add(a, b), difference = e.sub(a, b);
          e.store(last ? e.mul(sum, factor) : sum, out, low);
          e.store(last ? e.mul(difference, factor) : difference, out, high);
        });
      });
    }
    if (outer > 1)
      e.loop(base, e.add(base, e.index(length)), size, [&](Value at) {
        e.loop(at, e.add(at, e.index(block)), lanes,
               [&](Value first) { rotateRuns(e, out, first, outer, block, lanes, factor); });
      });
  });
}
