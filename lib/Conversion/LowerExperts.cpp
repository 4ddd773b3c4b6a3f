//===- LowerExperts.cpp - Routing among experts ---------------------------===//
//
// Selection by comparisons in the order the reference makes them, then softmax weights.
//
//===----------------------------------------------------------------------===//
#include "TileLowering.h"

using namespace mlir;
using namespace quern;

void quern::lowerTile(TileEmitter &e, kernel::TileRouteOp op) {
  Value logits = e.flat(op.getLogits()), experts = e.flat(op.getExperts());
  Value weights = e.flat(op.getWeights());
  int64_t count = rowLength(op.getLogits()), used = rowLength(op.getExperts());
  Value none = e.i32(-1), zero = e.index(0), one = e.i32(1);
  Value taken = e.stack({count}, e.b.getI32Type());
  e.loop(op.getBegin(), op.getEnd(), 1, [&](Value token) {
    Value row = e.mul(token, e.index(count)), to = e.mul(token, e.index(used));
    e.loop(zero, e.index(count), 1, [&](Value i) { e.storeRaw(e.i32(0), taken, i); });
    // A candidate wins if it is the first, or greater; a NaN never is.
    e.loop(zero, e.index(used), 1, [&](Value rank) {
      SmallVector<Value> best =
          e.reduce(zero, e.index(count), 1, {none, e.f32(0)}, [&](Value i, ValueRange carried) {
            Value v = e.load(logits, e.add(row, i));
            Value free =
                arith::CmpIOp::create(e.b, arith::CmpIPredicate::eq, e.loadRaw(taken, i), e.i32(0));
            Value first = arith::CmpIOp::create(e.b, arith::CmpIPredicate::eq, carried[0], none);
            Value better = arith::OrIOp::create(e.b, first, e.greater(v, carried[1]));
            Value wins = arith::AndIOp::create(e.b, free, better);
            return SmallVector<Value>{e.select(wins, e.toI32(i), carried[0]),
                                      e.select(wins, v, carried[1])};
          });
      e.storeRaw(one, taken, e.toIndex(best[0]));
      e.storeRaw(best[0], experts, e.add(to, rank));
      e.store(best[1], weights, e.add(to, rank));
    });
    Value largest = e.load(weights, to);
    bool normalize = op.getNormalize();
    Value source = normalize ? weights : logits, base = normalize ? to : row;
    Value total = e.reduce(zero, e.index(normalize ? used : count), 1, {e.f32(0)},
                           [&](Value i, ValueRange carried) {
                             Value v = e.exp(e.sub(e.load(source, e.add(base, i)), largest));
                             return SmallVector<Value>{e.add(carried[0], v)};
                           })[0];
    e.loop(zero, e.index(used), 1, [&](Value i) {
      Value at = e.add(to, i);
      // The largest was read above, before it is overwritten.
      Value v = e.exp(e.sub(e.load(weights, at), largest));
      e.store(e.div(v, total), weights, at);
    });
  });
}

void quern::lowerTile(TileEmitter &e, kernel::TileCombineExpertsOp op) {
  Value x = e.flat(op.getX()), weights = e.flat(op.getWeights()), out = e.flat(op.getOut());
  int64_t width = rowLength(op.getX()), used = rowLength(op.getWeights());
  e.loop(op.getBegin(), op.getEnd(), 1, [&](Value token) {
    Value first = e.mul(token, e.index(used)), to = e.mul(token, e.index(width));
    e.chunks(width, e.lanes(), [&](Value at, unsigned n) {
      Value total = e.splat(0, n);
      for (int64_t j = 0; j < used; ++j) {
        Value slice = e.add(first, e.index(j));
        Value v = e.load(x, e.add(e.mul(slice, e.index(width)), at), n);
        total = e.add(total, e.mul(e.broadcast(e.load(weights, slice), n), v));
      }
      e.store(total, out, e.add(to, at));
    });
  });
}
