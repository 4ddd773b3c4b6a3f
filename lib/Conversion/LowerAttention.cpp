//===- LowerAttention.cpp - Attention tiles -------------------------------===//
//
// For a few query rows at a time that read the same keys: scores of 64 positions, an online
// softmax over them, then the weighted values. A vector holds 16 positions in the first part and
// 16 dimensions in the last, so nothing is summed across lanes but the softmax.
//
//===----------------------------------------------------------------------===//
#include "TileLowering.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace quern;
using kernel::cacheGroup;
using kernel::keyLanes;

namespace {

/// Positions whose scores are kept at a time.
constexpr int64_t keyBlock = 64;
/// A masked score, and the running maximum before any score: the exponential of their difference
/// is 0, that of the maximum with itself 1, without a special case.
constexpr float maskedScore = -3e38f, initialMaximum = -1e38f;

class AttentionLowering {
public:
  AttentionLowering(TileEmitter &e, kernel::TileAttentionOp op)
      : e(e), op(op), q(e.flat(op.getQ())), kCache(e.flat(op.getKCache())),
        vCache(e.flat(op.getVCache())), positions(e.flat(op.getPositions())),
        sequences(e.flat(op.getSequences())), out(e.flat(op.getOut())),
        coded(bool(op.getKScales())), nibbles(op.getCodeBits() == 4), rows(op.getRowBlock()),
        dim(rowLength(op.getQ()) / op.getHeads()), group(op.getHeads() / op.getKvHeads()),
        width(nibbles ? dim / 2 : dim), scalesPerHead(nibbles ? 1 : dim / cacheGroup) {
    if (coded) {
      kScales = e.flat(op.getKScales());
      vScales = e.flat(op.getVScales());
    }
    queries = e.stack({rows * dim}, e.b.getF32Type());
    scores = e.stack({rows * keyBlock}, e.b.getF32Type());
    sums = e.stack({rows * dim}, e.b.getF32Type());
  }

  void run();

private:
  void tokens(Value kvHead, Value begin, Value end);
  void rowBlock(Value kvHead, Value firstToken, Value firstRow, Value rowCount);
  void keyScores(Value group, Value first);
  SmallVector<Value> scoreVectors(Value at, Value scaleAt);
  SmallVector<Value> nibbleScores(Value at, Value scaleAt);
  Value nibble(Value bytes, Value shift);
  Value softmax(int64_t row, Value &maximum, Value &total);
  void accumulate(Value first, Value count, ArrayRef<Value> corrections);

  TileEmitter &e;
  kernel::TileAttentionOp op;
  Value q, kCache, vCache, kScales, vScales, positions, sequences, out;
  bool coded, nibbles;
  int64_t rows, dim, group;
  int64_t width, scalesPerHead; ///< of a head in the cache: elements, scales
  Value queries, scores, sums;  // on the stack: [rows][dim], [rows][keyBlock], [rows][dim]

  // Of the current row block.
  SmallVector<Value> rowPositions, rowOffsets;
  Value keyBase, valueBase, kScaleBase, vScaleBase; // elements, at position 0 of slot and head
};

} // namespace

void AttentionLowering::run() {
  int64_t block = op.getTokenBlock();
  Value count = op.getTokens();
  Value blocks = e.div(e.add(count, e.index(block - 1)), e.index(block));
  e.loop(op.getBegin(), op.getEnd(), 1, [&](Value unit) {
    Value kvHead = e.div(unit, blocks), i = e.rem(unit, blocks);
    // First, last, second, last but one, ...: a run of units has short and long prefixes.
    Value half = e.div(i, e.index(2));
    Value isOdd =
        arith::CmpIOp::create(e.b, arith::CmpIPredicate::ne, e.rem(i, e.index(2)), e.index(0));
    Value which = e.select(isOdd, e.sub(e.sub(blocks, e.index(1)), half), half);
    Value begin = e.mul(which, e.index(block));
    if (block == 1)
      return tokens(kvHead, begin, e.add(begin, e.index(1)));
    Value end = e.min(e.add(begin, e.index(block)), count);
    // Tokens of one sequence slot are worked on together.
    e.loop(begin, end, 1, [&](Value token) {
      Value sequence = e.loadRaw(sequences, token);
      auto same = [&](Value other) -> Value {
        return arith::CmpIOp::create(e.b, arith::CmpIPredicate::eq, e.loadRaw(sequences, other),
                                     sequence);
      };
      Value before = e.select(e.less(begin, token), e.sub(token, e.index(1)), token);
      Value isFirst = arith::CmpIOp::create(e.b, arith::CmpIPredicate::eq, token, begin);
      Value starts =
          arith::XOrIOp::create(e.b, same(before), arith::ConstantIntOp::create(e.b, 1, 1));
      e.when(arith::OrIOp::create(e.b, isFirst, starts), [&] {
        Value open = arith::ConstantIntOp::create(e.b, 1, 1);
        Value runEnd =
            e.reduce(e.add(token, e.index(1)), end, 1, {e.add(token, e.index(1)), open},
                     [&](Value next, ValueRange carried) {
                       Value still = arith::AndIOp::create(e.b, carried[1], same(next));
                       Value longer = e.add(carried[0], e.index(1));
                       return SmallVector<Value>{e.select(still, longer, carried[0]), still};
                     })[0];
        tokens(kvHead, token, runEnd);
      });
    });
  });
}

void AttentionLowering::tokens(Value kvHead, Value begin, Value end) {
  Value rowCount = e.mul(e.sub(end, begin), e.index(group));
  if (op.getTokenBlock() == 1 && group <= rows)
    return rowBlock(kvHead, begin, e.index(0), rowCount);
  e.loop(e.index(0), rowCount, rows,
         [&](Value first) { rowBlock(kvHead, begin, first, rowCount); });
}

/// Rows beyond the last repeat it: the same work, the same result stored twice.
void AttentionLowering::rowBlock(Value kvHead, Value firstToken, Value firstRow, Value rowCount) {
  int64_t capacity = op.getCapacity(), window = op.getWindow();
  Value last = e.sub(rowCount, e.index(1));
  bool capped = !op.getSoftcap().isZero();
  float scale = op.getScale().convertToFloat();
  rowPositions.clear();
  rowOffsets.clear();
  Value highest, lowest;
  for (int64_t i = 0; i < rows; ++i) {
    Value row = e.min(e.add(firstRow, e.index(i)), last);
    Value token = e.add(firstToken, e.div(row, e.index(group)));
    Value head = e.add(e.mul(kvHead, e.index(group)), e.rem(row, e.index(group)));
    rowOffsets.push_back(e.mul(e.add(e.mul(token, e.index(op.getHeads())), head), e.index(dim)));
    rowPositions.push_back(e.loadRaw(positions, token));
    Value position = e.toIndex(rowPositions.back());
    highest = highest ? e.max(highest, position) : position;
    lowest = lowest ? e.min(lowest, position) : position;
    e.chunks(dim, e.lanes(), [&](Value at, unsigned n) {
      Value v = e.load(q, e.add(rowOffsets.back(), at), n);
      e.store(capped ? v : e.mul(v, e.splat(scale, n)), queries, e.add(e.index(i * dim), at));
      e.store(e.splat(0, n), sums, e.add(e.index(i * dim), at));
    });
  }
  Value sequence = e.toIndex(e.loadRaw(sequences, firstToken));
  Value line = e.mul(kvHead, e.index(capacity));
  keyBase = e.add(e.mul(sequence, e.index(rowLength(op.getKCache()))), e.mul(line, e.index(width)));
  valueBase = keyBase;
  if (coded)
    kScaleBase = vScaleBase = e.add(e.mul(sequence, e.index(rowLength(op.getKScales()))),
                                    e.mul(line, e.index(scalesPerHead)));

  Value begin = e.index(0), end = e.add(highest, e.index(1));
  if (window) {
    // max(0, lowest - window + 1), rounded down to a whole vector of keys.
    Value far = arith::CmpIOp::create(e.b, arith::CmpIPredicate::uge, lowest, e.index(window));
    begin = e.select(far, e.sub(lowest, e.index(window - 1)), begin);
    begin = e.sub(begin, e.rem(begin, e.index(keyLanes)));
  }
  SmallVector<Value> state;
  for (int64_t i = 0; i < rows; ++i)
    state.append({e.f32(initialMaximum), e.f32(0)});
  state = e.reduce(begin, end, keyBlock, state, [&](Value first, ValueRange carried) {
    SmallVector<Value> next(carried), corrections;
    Value count = e.min(e.sub(end, first), e.index(keyBlock));
    Value vectors = e.div(e.add(count, e.index(keyLanes - 1)), e.index(keyLanes));
    e.loop(e.index(0), vectors, 1, [&](Value v) { keyScores(v, first); });
    // Vectors of the block without a key: their scores are masked too.
    e.loop(vectors, e.index(keyBlock / keyLanes), 1, [&](Value v) {
      for (int64_t i = 0; i < rows; ++i)
        e.store(e.splat(maskedScore, keyLanes), scores,
                e.add(e.index(i * keyBlock), e.mul(v, e.index(keyLanes))));
    });
    for (int64_t i = 0; i < rows; ++i)
      corrections.push_back(softmax(i, next[2 * i], next[2 * i + 1]));
    accumulate(first, count, corrections);
    return next;
  });
  for (int64_t i = 0; i < rows; ++i) {
    Value inverse = e.div(e.f32(1), state[2 * i + 1]);
    e.chunks(dim, e.lanes(), [&](Value at, unsigned n) {
      Value v = e.load(sums, e.add(e.index(i * dim), at), n);
      e.store(e.mul(v, e.broadcast(inverse, n)), out, e.add(rowOffsets[i], at));
    });
  }
}

/// The codes in four bits of each byte, from `shift` (i32) on, as f32.
Value AttentionLowering::nibble(Value bytes, Value shift) {
  auto type = VectorType::get(cast<VectorType>(bytes.getType()).getShape(), e.b.getI32Type());
  Value wide = arith::ExtSIOp::create(e.b, type, bytes);
  // The code's sign goes to the word's, and back.
  Value up = arith::SubIOp::create(e.b, e.i32(28), shift);
  wide = arith::ShLIOp::create(e.b, wide, e.broadcast(up, type.getNumElements()));
  wide = arith::ShRSIOp::create(e.b, wide, e.broadcast(e.i32(28), type.getNumElements()));
  return arith::SIToFPOp::create(e.b, e.vec(type.getNumElements()), wide);
}

/// scoreVectors of keys of 4 bits.
SmallVector<Value> AttentionLowering::nibbleScores(Value at, Value scaleAt) {
  SmallVector<Value> zeros(rows, e.splat(0, keyLanes));
  SmallVector<Value> dots =
      e.reduce(e.index(0), e.index(dim / 2), 1, zeros, [&](Value pair, ValueRange carried) {
        SmallVector<Value> next(carried);
        Value bytes = e.loadRaw(kCache, e.add(at, e.mul(pair, e.index(keyLanes))), keyLanes);
        for (int64_t u = 0; u < 2; ++u) {
          Value keys = nibble(bytes, e.i32(4 * u)), d = e.add(e.add(pair, pair), e.index(u));
          for (int64_t i = 0; i < rows; ++i) {
            Value qi = e.load(queries, e.add(d, e.index(i * dim)));
            next[i] = e.fma(e.broadcast(qi, keyLanes), keys, next[i]);
          }
        }
        return next;
      });
  Value s = e.load(kScales, scaleAt, keyLanes);
  for (Value &dot : dots)
    dot = e.mul(dot, s);
  return dots;
}

/// Dot products of every row with 16 keys whose block starts at `at`.
SmallVector<Value> AttentionLowering::scoreVectors(Value at, Value scaleAt) {
  if (nibbles)
    return nibbleScores(at, scaleAt);
  auto over = [&](Value begin, int64_t length, int64_t unroll) {
    SmallVector<Value> zeros(rows, e.splat(0, keyLanes));
    return e.reduce(
        begin, e.add(begin, e.index(length)), unroll, zeros, [&](Value d, ValueRange carried) {
          SmallVector<Value> next(carried);
          for (int64_t u = 0; u < unroll; ++u) {
            Value du = e.add(d, e.index(u));
            Value keys = e.load(kCache, e.add(at, e.mul(du, e.index(keyLanes))), keyLanes);
            for (int64_t i = 0; i < rows; ++i) {
              Value qi = e.load(queries, e.add(du, e.index(i * dim)));
              next[i] = e.fma(e.broadcast(qi, keyLanes), keys, next[i]);
            }
          }
          return next;
        });
  };
  int64_t unroll = dim % 4 == 0 ? 4 : 1;
  if (!coded)
    return over(e.index(0), dim, unroll);
  SmallVector<Value> zeros(rows, e.splat(0, keyLanes));
  return e.reduce(e.index(0), e.index(dim), cacheGroup, zeros, [&](Value d, ValueRange carried) {
    SmallVector<Value> next = over(d, cacheGroup, 4);
    // [dim / 32][16]: half a scale an element of the group, times 16 lanes.
    Value s = e.load(kScales, e.add(scaleAt, e.div(d, e.index(cacheGroup / keyLanes))), keyLanes);
    for (int64_t i = 0; i < rows; ++i)
      next[i] = e.fma(next[i], s, carried[i]);
    return next;
  });
}

/// Scores of vector `v` of the key block that starts at position `first`, masked.
void AttentionLowering::keyScores(Value v, Value first) {
  Value position = e.add(first, e.mul(v, e.index(keyLanes)));
  Value at = e.add(keyBase, e.mul(position, e.index(width)));
  Value scaleAt;
  if (coded)
    scaleAt = e.add(kScaleBase, e.mul(position, e.index(scalesPerHead)));
  SmallVector<Value> dots = scoreVectors(at, scaleAt);
  auto intType = VectorType::get(keyLanes, e.b.getI32Type());
  SmallVector<int32_t> counting = llvm::to_vector(llvm::seq<int32_t>(0, keyLanes));
  Value keys = arith::AddIOp::create(
      e.b, e.broadcast(e.toI32(position), keyLanes),
      arith::ConstantOp::create(e.b, DenseElementsAttr::get(intType, ArrayRef(counting))));
  for (int64_t i = 0; i < rows; ++i) {
    Value s = dots[i];
    if (!op.getSoftcap().isZero()) {
      float cap = op.getSoftcap().convertToFloat(), scale = op.getScale().convertToFloat();
      s = math::TanhOp::create(e.b, e.mul(s, e.splat(scale / cap, keyLanes)));
      s = e.mul(s, e.splat(cap, keyLanes));
    }
    Value seen = arith::CmpIOp::create(e.b, arith::CmpIPredicate::sle, keys,
                                       e.broadcast(rowPositions[i], keyLanes));
    if (int64_t window = op.getWindow()) {
      Value oldest = arith::SubIOp::create(e.b, rowPositions[i], e.i32(window));
      Value recent = arith::CmpIOp::create(e.b, arith::CmpIPredicate::sgt, keys,
                                           e.broadcast(oldest, keyLanes));
      seen = arith::AndIOp::create(e.b, seen, recent);
    }
    s = e.select(seen, s, e.splat(maskedScore, keyLanes));
    e.store(s, scores, e.add(e.index(i * keyBlock), e.mul(v, e.index(keyLanes))));
  }
}

/// Turns a row's scores into weights relative to the new maximum; returns what the sums so far
/// must be multiplied with.
Value AttentionLowering::softmax(int64_t row, Value &maximum, Value &total) {
  SmallVector<Value> s;
  Value largest;
  for (int64_t v = 0; v < keyBlock / keyLanes; ++v) {
    s.push_back(e.load(scores, e.index(row * keyBlock + v * keyLanes), keyLanes));
    largest = largest ? e.max(largest, s.back()) : s.back();
  }
  Value raised = e.max(maximum, e.maximum(largest));
  Value correction = e.exp(e.sub(maximum, raised));
  Value weights;
  for (auto [v, value] : llvm::enumerate(s)) {
    Value p = e.exp(e.sub(value, e.broadcast(raised, keyLanes)));
    e.store(p, scores, e.index(row * keyBlock + v * keyLanes));
    weights = weights ? e.add(weights, p) : p;
  }
  maximum = raised;
  total = e.fma(total, correction, e.sum(weights));
  return correction;
}

/// sums = sums * correction + weights x values of `count` positions from `first`.
void AttentionLowering::accumulate(Value first, Value count, ArrayRef<Value> corrections) {
  constexpr int64_t lanes = 16;
  Value base = e.add(valueBase, e.mul(first, e.index(width)));
  e.chunks(dim, lanes, [&](Value d, unsigned n) {
    // Of 4 bits: 16 bytes hold 32 dimensions, the first 16 in their low halves.
    Value from = d, shift;
    if (nibbles) {
      Value odd = e.rem(e.div(d, e.index(lanes)), e.index(2));
      from = e.div(e.sub(d, e.mul(odd, e.index(lanes))), e.index(2));
      shift = e.toI32(e.mul(odd, e.index(4)));
    }
    SmallVector<Value> state;
    for (int64_t i = 0; i < rows; ++i)
      state.push_back(
          e.mul(e.load(sums, e.add(e.index(i * dim), d), n), e.broadcast(corrections[i], n)));
    state = e.reduce(e.index(0), count, 1, state, [&](Value key, ValueRange carried) {
      SmallVector<Value> next;
      Value at = e.add(e.add(base, e.mul(key, e.index(width))), from);
      Value values = nibbles ? nibble(e.loadRaw(vCache, at, n), shift) : e.load(vCache, at, n);
      if (coded) {
        Value line = e.mul(e.add(first, key), e.index(scalesPerHead));
        Value group = nibbles ? e.index(0) : e.div(d, e.index(cacheGroup));
        Value s = e.load(vScales, e.add(e.add(vScaleBase, line), group));
        values = e.mul(values, e.broadcast(s, n));
      }
      for (int64_t i = 0; i < rows; ++i) {
        Value p = e.load(scores, e.add(key, e.index(i * keyBlock)));
        next.push_back(e.fma(e.broadcast(p, n), values, carried[i]));
      }
      return next;
    });
    for (int64_t i = 0; i < rows; ++i)
      e.store(state[i], sums, e.add(e.index(i * dim), d));
  });
}

void quern::lowerTile(TileEmitter &e, kernel::TileAttentionOp op) {
  AttentionLowering(e, op).run();
}
