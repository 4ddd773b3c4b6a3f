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
// Tiles take the bf16 values themselves, and codes as bf16, which holds them exactly:
//
//   sum w x = ws D + offset xs S,  D = sum (code - bias) x in f32
//
//===----------------------------------------------------------------------===//
#include "LinearStrategy.h"
#include "LinearTiles.h"
#include <cmath>
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
        signedCodes(run && !words && canSign()),
        tiles(v, words ? 2 * std::min<int64_t>(run, 32) : std::min<int64_t>(run, 64)) {}

  int64_t stepsPerBlock() const override {
    return std::max<int64_t>(1, (run ? 768 : 512) / layout.step);
  }
  int64_t tokensPerSuperblock() const override {
    if (!run)
      return Strategy::tokensPerSuperblock();
    return TileCode::tokensInCache(words ? x.layout.paddedK * 2 : x.layout.bytes);
  }
  SmallVector<int64_t> tokenBlocks(int64_t) const override {
    if (run)
      return {TileCode::tokens, 8, 1};
    return {v.width == 16 ? 8 : 4, 1};
  }
  int64_t panelsAtOnce() const override { return v.target.panelsAtOnce; }
  int64_t tokensForTiles() const override { return run ? TileCode::tokens : 0; }
  void configureTiles() override { tiles.configure(); }
  void releaseTiles() override { tiles.release(); }

  void allocate() override {
    int64_t steps = stepsPerBlock();
    codes = v.scratch(steps * layout.step * 16 * codeBytes(), v.b.getI8Type());
    segmentCount = stepSegments(layout.step).size();
    factorFloats = segmentCount * 3 * 16;
    factors = v.scratch(steps * factorFloats, v.b.getF32Type());
    if (run && words)
      pairs = v.scratch(steps * layout.step * 16, v.b.getBF16Type());
    if (run)
      products = v.scratch(2 * runsAtOnce * tileInts, v.b.getI32Type());
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
    Value pairBase = v.mul(slot, layout.step * 16);
    for (int64_t quad = 0; quad < at.columns / 4; ++quad)
      for (int64_t part = 0; part < v.parts; ++part) {
        Value bytes = weights.quadOperand(at, quad, part);
        for (auto [i, vector] : llvm::enumerate(widen(bytes))) {
          Value stored = signedCodes ? v.minus(vector, biasBytes()) : vector;
          v.store(stored, codes, codeBase, unpackedOffset(quad, part, i));
        }
        if (pairs)
          storePairs(bytes, pairBase, quad);
      }
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

  /// By tiles where all runs are whole.
  void multiply(const UnpackedSteps &steps, const TokenBlock &block) override {
    if (block.count != TileCode::tokens || steps.extent.columns != layout.step)
      return Strategy::multiply(steps, block);
    SmallVector<Value> starts, acc;
    for (int64_t t = 0; t < block.count; ++t) {
      starts.push_back(v.add(block.start, t * x.tokenStride()));
      acc.push_back(loadSums(block, t)[0]);
    }
    Value runs = v.div(v.mul(steps.count, layout.step), run), done = v.index(0);
    for (int64_t atOnce : {runsAtOnce, int64_t(1)}) {
      Value end = v.mul(v.div(runs, atOnce), atOnce);
      acc = multiplyRuns(done, end, atOnce, steps.column, starts, acc);
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
    for (int64_t i = 0; i < codeBytes(); ++i) {
      Value stored =
          v.load(codes, base, unpackedOffset(quad, part, i), words ? v.shorts() : v.bytes());
      result.push_back(signedCodes ? v.plus(stored, biasBytes()) : stored);
    }
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

  /// A quad of the 16 rows as two rows of a right-hand tile of bf16, bias taken off.
  void storePairs(Value bytes, Value base, int64_t quad) {
    bool isSigned = canSign();
    Value all = v.as(isSigned ? v.minus(bytes, biasBytes()) : bytes, v.ints());
    auto column = [&](int64_t i) {
      Value code = isSigned ? v.shiftRightSigned(v.shiftLeft(all, 24 - 8 * i), 24)
                            : v.bitAnd(v.shiftRight(all, 8 * i), 255);
      return v.as(v.toFloat(code), v.ints()); // at most 8 bits: the lower half is zero
    };
    for (int64_t i = 0; i < 4; i += 2)
      v.store(v.bitOr(v.shiftRight(column(i), 16), column(i + 1)), pairs, base,
              (quad * 4 + i) * 16);
  }

  /// The columns over which tiles add up products: all scales are constant, and integer sums stay
  /// below 2^24. 0 if groups are not whole rows of a tile, or the target has none.
  int64_t tileRun() const {
    if (!(words ? v.target.amxBf16 : v.target.amxInt8) || weights.operand().isSigned ||
        !TileCode::canLoad(x.buffer))
      return 0;
    if (words && (!layout.spec.zero.empty() || (weights.operandBias() != 0 && !canSign())))
      return 0;
    bool perGroup = words ? hasOffset() : x.layout.kind == Activation::Q8;
    int64_t columns = perGroup ? 32 : 256;
    for (const format::PackedLevel &level : layout.levels)
      columns = std::gcd(columns, level.groupColumns);
    bool whole =
        columns % 16 == 0 && std::lcm(columns, layout.step) == std::max(columns, layout.step);
    for (Segment segment : stepSegments(layout.step)) // factors are found by number
      whole &= segment.end - segment.begin == std::min<int64_t>(columns, 32);
    return whole ? columns : 0;
  }
  /// Whether codes less their bias are signed bytes: tiles take these as well, and then there is
  /// no bias left to correct for, in any product. (Integers either way: the same bits.)
  bool canSign() const {
    float bias = weights.operandBias();
    return layout.spec.zero.empty() && bias == std::round(bias) && bias >= 1 && bias <= 128 &&
           weights.operand().largest - bias <= 127;
  }
  Value biasBytes() { return v.splat(v.bytes(), int64_t(weights.operandBias())); }

  /// Runs from `begin` to `end`, a multiple of `atOnce`, of 16 tokens that start at `starts`. While
  /// one lot of products is scaled and added up, tiles multiply the next. `base` is the column of
  /// the row where the scratch begins.
  SmallVector<Value> multiplyRuns(Value begin, Value end, int64_t atOnce, Value base,
                                  ArrayRef<Value> starts, ArrayRef<Value> acc) {
    auto isLess = [&](Value a, Value c) -> Value {
      return arith::CmpIOp::create(v.b, v.loc, arith::CmpIPredicate::ult, a, c);
    };
    v.ifElse(
        isLess(begin, end), [&] { tileProducts(begin, atOnce, base, starts[0], v.index(0)); },
        nullptr);
    SmallVector<Value> carried(acc);
    carried.push_back(v.index(0));
    carried = v.loop(begin, end, atOnce, carried, [&](Value first, ValueRange now) {
      Value next = v.add(first, atOnce);
      Value other = arith::SubIOp::create(v.b, v.loc, v.index(atOnce * tileInts), now.back());
      v.ifElse(
          isLess(next, end), [&] { tileProducts(next, atOnce, base, starts[0], other); }, nullptr);
      SmallVector<Value> sums = addProducts(first, atOnce, base, starts, now.drop_back(), now.back());
      sums.push_back(other);
      return sums;
    });
    carried.pop_back();
    return carried;
  }

  /// Multiplies `count` runs from `first` on, into `products` from `to` on.
  void tileProducts(Value first, int64_t count, Value base, Value start, Value to) {
    int64_t size = codeBytes(), columns = std::min<int64_t>(run, 64 / size); // of a tile
    Value right = words ? pairs : codes;
    Value column = v.mul(first, run);
    Value left = v.add(start, v.mul(v.add(base, column), size));
    for (int64_t i = 0; i < count; ++i) {
      int sum = TileCode::sums + i;
      tiles.zero(sum);
      for (int64_t at = 0; at < run; at += columns) {
        int64_t k = i * run + at;
        int other = k / columns % 2;
        int a = TileCode::left + other, c = TileCode::right + other;
        tiles.load(a, x.buffer, v.add(left, k * size), x.tokenStride());
        tiles.load(c, right, v.add(v.mul(column, 16), k * 16), 64);
        words ? tiles.dotBF16(sum, a, c) : tiles.dotBytes(sum, a, c, signedCodes);
      }
    }
    for (int64_t i = 0; i < count; ++i)
      tiles.store(TileCode::sums + i, products, v.add(to, i * tileInts), 64);
  }

  /// Scales what tileProducts has multiplied and adds it to the sums of 16 tokens.
  SmallVector<Value> addProducts(Value first, int64_t count, Value base, ArrayRef<Value> starts,
                                 ValueRange acc, Value from) {
    // Steps lie one after the other in the scratch, and so do the factors of their segments.
    int64_t segment = std::min<int64_t>(run, 32);
    SmallVector<Parts> sums;
    for (Value value : acc)
      sums.push_back({value});
    for (int64_t i = 0; i < count; ++i) {
      Value column = v.mul(v.add(first, i), run);
      Value factor = v.mul(v.div(column, segment), 3 * 16);
      auto get = [&](bool present, int64_t which) -> Parts {
        if (!present)
          return {};
        return {v.load(factors, factor, which * 16, v.floats())};
      };
      SegmentFactors f = {get(true, 0), get(hasZero() && !signedCodes && !words, 1),
                          get(hasOffset(), 2)};
      SmallVector<Parts> dots;
      for (int64_t t = 0; t < TileCode::tokens; ++t)
        dots.push_back(
            {v.load(products, from, i * tileInts + t * 16, words ? v.floats() : v.ints())});
      accumulate({0, run}, v.add(base, column), starts, f, dots, sums);
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

  /// Scales before `column`, which may lie within a group of activations.
  Value bytesBefore(Value column) {
    return run && run < 32 ? v.mul(v.div(column, 32), 4) : v.div(column, 8);
  }

  /// Adds a segment's D, scaled, to the accumulators. D of floats has the activations' scale in it.
  void accumulate(Segment segment, Value column, ArrayRef<Value> tokens, const SegmentFactors &f,
                  ArrayRef<Parts> sums, SmallVector<Parts> &acc) {
    for (auto [t, token] : llvm::enumerate(tokens)) {
      Value scale, sum;
      bool scaled = isa<FloatType>(getElementTypeOrSelf(sums[t][0].getType()));
      if (x.layout.kind != Activation::Int8 && !(scaled && f.offset.empty()))
        scale = v.broadcastFloat(v.loadScalar(x.buffer, v.add(token, bytesBefore(column)),
                                              x.layout.scalesOffset + segment.begin / 32 * 4,
                                              v.b.getF32Type()));
      if (!f.minusZero.empty() || !f.offset.empty())
        sum = v.broadcastFloat(sumOfCodes(token, column, segment));
      Value scaledSum = sum && !f.offset.empty() && scale ? v.times(sum, scale) : sum;
      for (int64_t part = 0; part < v.parts; ++part) {
        Value d = scaled ? sums[t][part] : v.toFloat(sums[t][part]);
        if (!f.minusZero.empty())
          d = v.fma(f.minusZero[part], sum, d);
        if (scale && !scaled)
          d = v.times(d, scale);
        Value &into = acc[t][part];
        into = v.fma(d, f.scale[part], into);
        if (!f.offset.empty())
          into = v.fma(f.offset[part], scaledSum, into);
      }
    }
  }

  /// Two lots of products are 4 KB: no load of one is taken for one of the other's stores, which
  /// processors tell apart by the lower 12 bits of the address.
  static constexpr int64_t runsAtOnce = 2;
  static constexpr int64_t tileInts = TileCode::tokens * 16; ///< a tile of sums

  const bool words;       ///< int16 codes of activations
  const int64_t run;      ///< columns; 0 without tiles
  const bool signedCodes; ///< in the scratch: without the operand's bias
  TileCode tiles;
  Value codes, factors, products;
  Value pairs; ///< codes as bf16, [column / 2][16 rows][2]; null without tiles of bf16
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
