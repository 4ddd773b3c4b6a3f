//===- LinearInteger.cpp - Linear by integer dot products -----------------===//
//
// Over a segment of columns where all scales are constant,
//
//   sum w x = xs (ws (D - (bias + zero) S) + offset S),  D = sum code q,  S = sum q
//
// with q the activations' int8 codes and xs their scale. D, S and the difference are
// integers below 2^24 (segments are at most 256 columns long), hence exact in f32.
//
// bf16 activations have int16 codes (ActivationLayout), and codes of weights are widened to 16
// bits: even bytes in one vector, odd ones in another. D stays below 2^28 and is rounded once.
//
//===----------------------------------------------------------------------===//
#include "LinearStrategy.h"
#include "LinearTiles.h"
#include <numeric>

using namespace mlir;
using namespace quern;
using namespace quern::conversion;
using namespace quern::conversion::detail;

namespace {
/// What a segment's weights contribute besides their codes; null where absent.
struct SegmentFactors {
  Parts scale;     ///< ws, code multiplier included
  Parts minusZero; ///< -(bias + zero)
  Parts offset;
};

class IntegerStrategy final : public Strategy {
public:
  IntegerStrategy(VectorCode &v, const format::PackedLayout &layout, WeightReader &weights,
                  const ActivationSource &x)
      : Strategy(v, layout, weights, x), words(x.layout.kind == Activation::BF16), run(tileRun()),
        tiles(v, std::min<int64_t>(run, 64)) {}

  int64_t stepsPerBlock() const override { return std::max<int64_t>(1, 512 / layout.step); }
  SmallVector<int64_t> tokenBlocks() const override {
    if (run)
      return {TileCode::tokens, 8, 1};
    return {v.width == 16 ? 8 : 4, 1};
  }
  int64_t tokensForTiles() const override { return run ? TileCode::tokens : 0; }
  void configureTiles() override { tiles.configure(); }
  void releaseTiles() override { tiles.release(); }

  void allocate() override {
    int64_t steps = stepsPerBlock();
    codes = v.scratch(steps * layout.step * 16 * codeBytes(), v.b.getI8Type());
    segmentCount = stepSegments(layout.step).size();
    factorFloats = segmentCount * 3 * 16;
    factors = v.scratch(steps * factorFloats, v.b.getF32Type());
    if (run)
      products = v.scratch(TileCode::sumTiles * TileCode::tokens * 16, v.b.getI32Type());
  }
  Parts direct(const StepPosition &at, Value token, Parts acc) override {
    weights.prefetch(at);
    SmallVector<Parts> accs = {acc};
    for (Segment segment : stepSegments(at.columns)) {
      SegmentFactors f = segmentFactors(at, segment);
      SmallVector<Parts> sums = dotUnrolled(segment, at, token);
      accumulate(segment, at.column, {token}, f, sums, accs);
    }
    return accs[0];
  }

  void unpack(const StepPosition &at, Value slot) override {
    Value codeBase = v.mul(slot, layout.step * 16 * codeBytes());
    for (int64_t quad = 0; quad < at.columns / 4; ++quad)
      for (int64_t part = 0; part < v.parts; ++part)
        for (auto [i, vector] : llvm::enumerate(widen(weights.quadOperand(at, quad, part))))
          v.store(vector, codes, codeBase, unpackedOffset(quad, part, i));
    Value factorBase = v.mul(slot, factorFloats);
    for (auto [i, segment] : llvm::enumerate(stepSegments(at.columns))) {
      SegmentFactors f = segmentFactors(at, segment);
      auto put = [&](const Parts &values, int64_t which) {
        for (auto [part, value] : llvm::enumerate(values))
          v.store(value, factors, factorBase, (i * 3 + which) * 16 + part * v.width);
      };
      put(f.scale, 0);
      put(f.minusZero, 1);
      put(f.offset, 2);
    }
  }

  SmallVector<Parts> blocked(Value slot, StepExtent extent, Value column, ArrayRef<Value> tokens,
                             SmallVector<Parts> acc) override {
    Value codeBase = v.mul(slot, layout.step * 16 * codeBytes());
    Value factorBase = v.mul(slot, factorFloats);
    for (auto [i, segment] : llvm::enumerate(stepSegments(extent.columns))) {
      auto get = [&](bool present, int64_t which) {
        Parts values;
        for (int64_t part = 0; present && part < v.parts; ++part)
          values.push_back(
              v.load(factors, factorBase, (i * 3 + which) * 16 + part * v.width, v.floats()));
        return values;
      };
      SegmentFactors f = {get(true, 0), get(hasZero(), 1), get(hasOffset(), 2)};
      SmallVector<Parts> sums = dotLoop(segment, codeBase, column, tokens);
      accumulate(segment, column, tokens, f, sums, acc);
    }
    return acc;
  }

  /// By tiles where all runs are whole, a few at a time to hide the latency of each.
  void multiply(const UnpackedSteps &steps, const TokenBlock &block) override {
    if (block.count != TileCode::tokens || steps.extent.columns != layout.step)
      return Strategy::multiply(steps, block);
    SmallVector<Value> starts, acc;
    for (int64_t t = 0; t < block.count; ++t) {
      starts.push_back(v.add(block.start, t * x.tokenStride()));
      acc.push_back(loadSums(block, t)[0]);
    }
    Value runs = v.div(v.mul(steps.count, layout.step), run), done = v.index(0);
    for (int64_t atOnce : {TileCode::sumTiles, 1}) {
      Value end = v.mul(v.div(runs, atOnce), atOnce);
      acc = v.loop(done, end, atOnce, acc, [&](Value first, ValueRange carried) {
        return multiplyRuns(first, atOnce, steps.column, starts, carried);
      });
      done = end;
    }
    for (int64_t t = 0; t < block.count; ++t)
      storeSums(block, t, acc[t]);
    if (run > layout.step)
      multiplySlots(v.mul(runs, run / layout.step), steps.count, steps, block);
  }

  /// A scale per token is applied once, at the end.
  Parts finish(Value token, Parts acc) override {
    if (x.layout.kind != Activation::Int8)
      return acc;
    Value scale =
        v.broadcastFloat(v.loadScalar(x.buffer, token, x.layout.scalesOffset, v.b.getF32Type()));
    for (Value &part : acc)
      part = v.times(part, scale);
    return acc;
  }

private:
  SmallVector<Segment> stepSegments(int64_t columns) const { return segments(layout, columns, 32); }
  bool hasOffset() const { return !layout.spec.offset.empty(); }
  int64_t codeBytes() const { return x.layout.codeBytes(); }

  /// What one quad of a part is multiplied with: a vector of bytes, or its even and odd bytes as
  /// words.
  using Quad = SmallVector<Value, 2>;
  Quad widen(Value bytes) {
    if (!words)
      return {bytes};
    Value pairs = v.as(bytes, v.shorts());
    if (weights.operand().isSigned)
      return {v.shiftRightSigned(v.shiftLeft(pairs, 8), 8), v.shiftRightSigned(pairs, 8)};
    return {v.bitAnd(pairs, 255), v.shiftRight(pairs, 8)};
  }
  /// Where `unpack` puts vector `i` of a quad, from the slot's start.
  int64_t unpackedOffset(int64_t quad, int64_t part, int64_t i) const {
    return ((quad * v.parts + part) * codeBytes() + i) * v.width * 4;
  }
  Quad loadQuad(Value base, int64_t quad, int64_t part) {
    Quad result;
    for (int64_t i = 0; i < codeBytes(); ++i)
      result.push_back(
          v.load(codes, base, unpackedOffset(quad, part, i), words ? v.shorts() : v.bytes()));
    return result;
  }
  /// A token's codes of the quad that begins `column` columns after `start`, for all lanes.
  Quad activationQuad(Value start, int64_t column) {
    int64_t offset = x.layout.codesOffset + column * codeBytes();
    if (!words)
      return {v.broadcastQuad(x.buffer, start, offset)};
    return {v.as(v.broadcastQuad(x.buffer, start, offset), v.shorts()),
            v.as(v.broadcastQuad(x.buffer, start, offset + 4), v.shorts())};
  }
  void multiplyQuad(DotSum &sum, const Quad &w, const Quad &q) {
    if (!words)
      return sum.add(v, weights.operand(), w[0], q[0]);
    for (auto [weight, activation] : llvm::zip(w, q))
      sum.addWords(v, weight, activation);
  }
  bool hasZero() const { return weights.operandBias() != 0 || !layout.spec.zero.empty(); }

  SegmentFactors segmentFactors(const StepPosition &at, Segment segment) {
    SegmentLevels levels = weights.levels(at, segment);
    float multiplier = weights.meaning.multiplier;
    SegmentFactors result;
    for (int64_t part = 0; part < v.parts; ++part) {
      Value constant = v.splat(v.floats(), double(multiplier));
      Value scale = levels.scale.empty() ? constant
                    : multiplier == 1    ? levels.scale[part]
                                         : v.times(levels.scale[part], constant);
      result.scale.push_back(scale);
      if (!levels.zero.empty()) {
        Value zero = levels.zero[part];
        if (multiplier != 1)
          zero = v.times(zero, v.splat(v.floats(), 1.0 / multiplier));
        result.minusZero.push_back(
            v.minus(v.splat(v.floats(), -double(weights.operandBias())), zero));
      } else if (hasZero()) {
        result.minusZero.push_back(v.splat(v.floats(), -double(weights.operandBias())));
      }
      if (!levels.offset.empty())
        result.offset.push_back(levels.offset[part]);
    }
    return result;
  }

  /// The columns over which tiles add up integers: all scales are constant, and sums stay below
  /// 2^24. 0 if groups are not whole tiles, or the target has none.
  int64_t tileRun() const {
    if (words || !v.target.amxInt8 || weights.operand().isSigned || !TileCode::canLoad(x.buffer))
      return 0;
    int64_t columns = x.layout.kind == Activation::Q8 ? 32 : 256;
    for (const format::PackedLevel &level : layout.levels)
      columns = std::gcd(columns, level.groupColumns);
    return columns % 32 || std::lcm(columns, layout.step) != std::max(columns, layout.step)
               ? 0
               : columns;
  }

  /// `count` runs from `first` on, for 16 tokens that start at `starts`. `base` is the column
  /// of the row where the scratch begins.
  SmallVector<Value> multiplyRuns(Value first, int64_t count, Value base, ArrayRef<Value> starts,
                                  ValueRange acc) {
    int64_t columns = std::min<int64_t>(run, 64); // of a tile
    Value column = v.mul(first, run);
    Value columnInRow = v.add(base, column);
    constexpr int64_t tileInts = TileCode::tokens * 16;
    for (int64_t i = 0; i < count; ++i) {
      int sum = TileCode::sums + i;
      tiles.zero(sum);
      for (int64_t at = 0; at < run; at += columns) {
        int64_t k = i * run + at;
        int other = k / columns % 2;
        tiles.load(TileCode::left + other, x.buffer, v.add(v.add(starts[0], columnInRow), k),
                   x.tokenStride());
        tiles.load(TileCode::right + other, codes, v.add(v.mul(column, 16), k * 16), 64);
        tiles.dotBytes(sum, TileCode::left + other, TileCode::right + other);
      }
    }
    for (int64_t i = 0; i < count; ++i)
      tiles.store(TileCode::sums + i, products, v.index(i * tileInts), 64);
    SmallVector<Parts> sums;
    for (Value value : acc)
      sums.push_back({value});
    for (int64_t i = 0; i < count; ++i) {
      // Steps lie one after the other in the scratch, and their factors are by 32 columns.
      Value factor = v.mul(v.div(v.add(column, i * run), 32), 3 * 16);
      auto get = [&](bool present, int64_t which) -> Parts {
        if (!present)
          return {};
        return {v.load(factors, factor, which * 16, v.floats())};
      };
      SegmentFactors f = {get(true, 0), get(hasZero(), 1), get(hasOffset(), 2)};
      SmallVector<Parts> dots;
      for (int64_t t = 0; t < TileCode::tokens; ++t)
        dots.push_back({v.load(products, v.index(0), i * tileInts + t * 16, v.ints())});
      accumulate({0, run}, v.add(columnInRow, i * run), starts, f, dots, sums);
    }
    SmallVector<Value> result;
    for (Parts &parts : sums)
      result.push_back(parts[0]);
    return result;
  }

  /// The sum of a token's codes over a segment, as an f32 scalar, from the sums of 32, 16 and 8
  /// columns that come with the codes.
  Value sumOfCodes(Value token, Value column, Segment segment) {
    Value sum;
    for (int64_t at = segment.begin; at < segment.end;) {
      Value term;
      int64_t left = segment.end - at, length = 8;
      if (at % 32 == 0 && left >= 32) {
        length = 32;
        term = v.loadScalar(x.buffer, v.add(token, v.div(column, 8)),
                            x.layout.sums32Offset + at / 32 * 4, v.b.getF32Type());
      } else if (at % 16 == 0 && left >= 16) {
        length = 16;
        term = v.loadScalar(x.buffer, v.add(token, v.div(column, 4)),
                            x.layout.sums16Offset + at / 16 * 4, v.b.getF32Type());
      } else {
        if (words) {
          term = v.loadScalar(x.buffer, v.add(token, v.div(column, 2)),
                              x.layout.sums8Offset + at / 8 * 4, v.b.getF32Type());
        } else {
          Value raw = v.loadScalar(x.buffer, v.add(token, v.div(column, 4)),
                                   x.layout.sums8Offset + at / 8 * 2, v.b.getI16Type());
          term = arith::SIToFPOp::create(v.b, v.loc, v.b.getF32Type(), raw);
        }
      }
      sum = sum ? arith::AddFOp::create(v.b, v.loc, sum, term) : term;
      at += length;
    }
    return sum;
  }

  /// D for one token, straight from the panel, all in a row.
  SmallVector<Parts> dotUnrolled(Segment segment, const StepPosition &at, Value token) {
    SmallVector<DotSum, 4> sums(v.parts);
    Value start = v.add(token, v.mul(at.column, codeBytes()));
    for (int64_t quad = segment.begin / 4; quad < segment.end / 4; ++quad) {
      Quad q = activationQuad(start, quad * 4);
      for (int64_t part = 0; part < v.parts; ++part)
        multiplyQuad(sums[part], widen(weights.quadOperand(at, quad, part)), q);
    }
    Parts result;
    for (DotSum &sum : sums)
      result.push_back(sum.take(v));
    return {result};
  }

  /// D for several tokens from unpacked codes, for segments too short to loop over.
  SmallVector<Parts> dotUnrolled(Segment segment, Value codeBase, Value column,
                                 ArrayRef<Value> tokens) {
    SmallVector<DotSum, 16> sums(tokens.size() * v.parts);
    for (int64_t quad = segment.begin / 4; quad < segment.end / 4; ++quad) {
      v.fence();
      SmallVector<Quad> w;
      for (int64_t part = 0; part < v.parts; ++part)
        w.push_back(loadQuad(codeBase, quad, part));
      for (auto [t, token] : llvm::enumerate(tokens)) {
        Quad q = activationQuad(v.add(token, v.mul(column, codeBytes())), quad * 4);
        for (int64_t part = 0; part < v.parts; ++part)
          multiplyQuad(sums[t * v.parts + part], w[part], q);
      }
    }
    v.fence();
    SmallVector<Parts> result(tokens.size());
    for (auto [i, sum] : llvm::enumerate(sums))
      result[i / v.parts].push_back(sum.take(v));
    return result;
  }

  /// D for several tokens from unpacked codes, as a loop whose sums stay in registers.
  SmallVector<Parts> dotLoop(Segment segment, Value codeBase, Value column,
                             ArrayRef<Value> tokens) {
    int64_t quads = (segment.end - segment.begin) / 4;
    if (quads <= 4)
      return dotUnrolled(segment, codeBase, column, tokens);
    int64_t limit = words ? quads : DotSum::addsBeforeWidening(v, weights.operand());
    bool narrow = !words && v.target.intDot == target::IntDot::Maddubs && limit >= quads;
    // Sums that have to be widened on the way are, once an iteration.
    int64_t unroll = 1;
    if (!narrow)
      while (unroll < 4 && quads % (2 * unroll) == 0 && 2 * unroll <= limit)
        unroll *= 2;
    Value firstCode = v.add(codeBase, segment.begin * 16 * codeBytes());
    SmallVector<Value> starts;
    for (Value token : tokens)
      starts.push_back(
          v.add(v.add(token, v.mul(column, codeBytes())), segment.begin * codeBytes()));
    SmallVector<Value> zeros(tokens.size() * v.parts,
                             v.splat(narrow ? v.shorts() : v.ints(), int64_t(0)));
    SmallVector<Value> sums = v.tightLoop(quads, unroll, zeros, [&](Value iv, ValueRange carried) {
      SmallVector<DotSum, 16> running(carried.size());
      for (auto [sum, from] : llvm::zip(running, carried))
        narrow ? sum.startFrom16(from) : sum.startFrom32(from);
      Value code = v.add(firstCode, v.mul(iv, 64 * codeBytes()));
      Value k = v.mul(iv, 4 * codeBytes());
      for (int64_t u = 0; u < unroll; ++u) {
        SmallVector<Quad> w;
        for (int64_t part = 0; part < v.parts; ++part)
          w.push_back(loadQuad(code, u, part));
        for (auto [t, start] : llvm::enumerate(starts)) {
          Quad q = activationQuad(v.add(start, k), u * 4);
          for (int64_t part = 0; part < v.parts; ++part)
            multiplyQuad(running[t * v.parts + part], w[part], q);
        }
      }
      SmallVector<Value> next;
      for (DotSum &sum : running)
        next.push_back(narrow ? sum.take16() : sum.take(v));
      return next;
    });
    SmallVector<Parts> result(tokens.size());
    for (auto [i, sum] : llvm::enumerate(sums)) {
      if (narrow) {
        DotSum last;
        last.startFrom16(sum);
        sum = last.take(v);
      }
      result[i / v.parts].push_back(sum);
    }
    return result;
  }

  /// Adds a segment's D, scaled, to the accumulators.
  void accumulate(Segment segment, Value column, ArrayRef<Value> tokens, const SegmentFactors &f,
                  ArrayRef<Parts> sums, SmallVector<Parts> &acc) {
    for (auto [t, token] : llvm::enumerate(tokens)) {
      Value scale, sum;
      if (x.layout.kind != Activation::Int8)
        scale = v.broadcastFloat(v.loadScalar(x.buffer, v.add(token, v.div(column, 8)),
                                              x.layout.scalesOffset + segment.begin / 32 * 4,
                                              v.b.getF32Type()));
      if (!f.minusZero.empty() || !f.offset.empty())
        sum = v.broadcastFloat(sumOfCodes(token, column, segment));
      Value scaledSum = sum && !f.offset.empty() && scale ? v.times(sum, scale) : sum;
      for (int64_t part = 0; part < v.parts; ++part) {
        Value d = v.toFloat(sums[t][part]);
        if (!f.minusZero.empty())
          d = v.fma(f.minusZero[part], sum, d);
        if (scale)
          d = v.times(d, scale);
        Value &into = acc[t][part];
        into = v.fma(d, f.scale[part], into);
        if (!f.offset.empty())
          into = v.fma(f.offset[part], scaledSum, into);
      }
    }
  }

  const bool words;  ///< int16 codes of activations
  const int64_t run; ///< columns; 0 without tiles
  TileCode tiles;
  Value codes, factors, products;
  int64_t segmentCount = 0, factorFloats = 0;
};
} // namespace

std::unique_ptr<Strategy>
conversion::detail::makeIntegerStrategy(VectorCode &v, const format::PackedLayout &layout,
                                        WeightReader &weights, const ActivationSource &x) {
  bool quantized = x.layout.kind == Activation::Q8 || x.layout.kind == Activation::Int8 ||
                   (x.layout.kind == Activation::BF16 && v.target.hasWordProducts());
  if (!quantized || !format::hasIntegerProducts(layout))
    return nullptr;
  return std::make_unique<IntegerStrategy>(v, layout, weights, x);
}
