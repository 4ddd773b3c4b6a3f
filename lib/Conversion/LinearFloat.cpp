//===- LinearFloat.cpp - Linear by decoding weights to f32 ----------------===//
//
// Decodes 16 rows of a column exactly as the format defines, then one fused multiply-add a
// column. Activations that are not f32 are widened a step at a time, into scratch; bf16 ones
// lie there as f32, too, on targets without tiles for them.
//
// bf16 activations on a target with bf16 tiles: weights are rounded to bf16 too, and kept in
// scratch in pairs of columns, for tiles and for the tokens that do not fill one.
//
//===----------------------------------------------------------------------===//
#include "LinearStrategy.h"
#include "LinearTiles.h"

using namespace mlir;
using namespace quern;
using namespace quern::conversion;
using namespace quern::conversion::detail;

namespace {
class FloatStrategy final : public Strategy {
public:
  FloatStrategy(VectorCode &v, const format::PackedLayout &layout, WeightReader &weights,
                const ActivationSource &x)
      : Strategy(v, layout, weights, x),
        rounded(v.target.amxBf16 && x.layout.kind == Activation::BF16),
        useTiles(rounded && TileCode::canLoad(x.buffer)),
        bytesIndexed(x.layout.kind == Activation::BF16 && !rounded), tiles(v, 2 * tileColumns) {}

  int64_t stepsPerBlock() const override {
    return std::max<int64_t>(1, (useTiles ? 512 : 128) / layout.step);
  }
  /// Of 32 registers two panels and 12 tokens take 24 for sums and load 14 for 24 multiply-adds;
  /// one panel would load more than it multiplies.
  int64_t panelsPerPass() const override { return v.width == 16 && inPlace() ? 2 : 1; }
  SmallVector<int64_t> tokenBlocks(int64_t panels) const override {
    if (useTiles)
      return {TileCode::sumTiles * TileCode::tokens, TileCode::tokens, widenedTokens(), 1};
    if (v.width == 8 && inPlace())
      return {6, 4, 1};
    if (panels == 2)
      return {12, 4, 1};
    return {widenedTokens(), 1};
  }
  int64_t tokensPerSuperblock() const override {
    return useTiles    ? TileCode::tokensInCache(x.layout.paddedK * 2)
           : inPlace() ? 192
                       : Strategy::tokensPerSuperblock();
  }
  bool fetchesAhead() const override { return inPlace() && v.target.prefetchBytes; }
  int64_t tokensForTiles() const override { return useTiles ? TileCode::tokens : 0; }
  void configureTiles() override { tiles.configure(); }
  void releaseTiles() override { tiles.release(); }

  void allocate() override {
    int64_t weightsUnpacked = panelsPerPass() * panelWeights();
    unpacked = rounded ? v.scratch(weightsUnpacked, v.b.getBF16Type())
                       : v.scratch(weightsUnpacked, v.b.getF32Type());
    if (!inPlace())
      widened = v.scratch(widenedTokens() * layout.step, v.b.getF32Type());
  }

  Parts direct(const StepPosition &at, Value token, Parts acc) override {
    weights.prefetch(at);
    SmallVector<Value> rows = widen(at.column, at.columns, {token});
    decodeStep(at, [&](int64_t column, const Parts &w) {
      Value xk = broadcastColumn(rows[0], column);
      for (int64_t part = 0; part < v.parts; ++part)
        acc[part] = v.fma(w[part], xk, acc[part]);
    });
    return acc;
  }

  void unpack(const StepPosition &at, Value slot) override {
    Value base = v.mul(slot, layout.step * 16);
    if (rounded)
      return unpackPairs(at, base);
    decodeStep(at, [&](int64_t column, const Parts &w) {
      for (int64_t part = 0; part < v.parts; ++part)
        v.store(w[part], unpacked, base, column * 16 + part * v.width);
    });
  }

  SmallVector<Parts> blocked(Value slot, StepExtent extent, Value column, ArrayRef<Value> tokens,
                             SmallVector<Parts> acc) override {
    SmallVector<Value> rows = widen(column, extent.columns, tokens);
    Value slotBase = v.mul(slot, layout.step * 16);
    int64_t perToken = int64_t(acc[0].size());
    SmallVector<Value> flat;
    for (Parts &parts : acc)
      flat.append(parts.begin(), parts.end());
    int64_t atOnce = rounded ? 2 : 1, end = llvm::alignTo(extent.present, atOnce);
    flat = v.loop(v.index(0), v.index(end), atOnce, flat, [&](Value k, ValueRange carried) {
      SmallVector<Value> next(carried);
      Value base = v.add(slotBase, v.mul(k, 16));
      for (int64_t i = 0; i < atOnce; ++i) {
        Parts w;
        for (int64_t part = 0; part < perToken; ++part)
          w.push_back(rounded ? halfOfPair(base, i, part)
                              : v.load(unpacked, base,
                                       part / v.parts * panelWeights() + part % v.parts * v.width,
                                       v.floats()));
        for (auto [t, row] : llvm::enumerate(rows)) {
          Value xk = broadcastColumn(v.add(row, v.mul(k, unit())), i);
          for (int64_t part = 0; part < perToken; ++part) {
            Value &into = next[t * perToken + part];
            into = v.fma(w[part], xk, into);
          }
        }
      }
      return next;
    });
    for (auto [i, value] : llvm::enumerate(flat))
      acc[i / perToken][i % perToken] = value;
    return acc;
  }

  /// Tiles of sums are loaded and stored as they lie in memory.
  void multiply(const UnpackedSteps &steps, const TokenBlock &block) override {
    if (!useTiles || block.count < TileCode::tokens)
      return Strategy::multiply(steps, block);
    int64_t count = block.count / TileCode::tokens, stride = x.tokenStride();
    auto sumsOf = [&](int64_t i) { return v.add(block.firstSum, i * TileCode::tokens * 16); };
    for (int64_t i = 0; i < count; ++i)
      tiles.load(TileCode::sums + i, block.sums, sumsOf(i), 64);
    Value start = v.add(block.start, v.mul(steps.column, 2));
    Value columns = v.mul(steps.count, steps.extent.columns);
    v.loop(v.index(0), columns, tileColumns, [&](Value column) {
      tiles.load(TileCode::right, unpacked, v.mul(column, 16), 64);
      for (int64_t i = 0; i < count; ++i) {
        int left = TileCode::left + i % TileCode::leftTiles;
        tiles.load(left, x.buffer,
                   v.add(v.add(start, v.mul(column, 2)), i * TileCode::tokens * stride), stride);
        tiles.dotBF16(TileCode::sums + i, left, TileCode::right);
      }
    });
    for (int64_t i = 0; i < count; ++i)
      tiles.store(TileCode::sums + i, block.sums, sumsOf(i), 64);
  }

private:
  static constexpr int64_t tileColumns = 32;
  int64_t widenedTokens() const { return v.width == 16 ? 8 : 4; }
  /// Whether activations are read where they lie.
  bool inPlace() const { return x.layout.kind == Activation::F32 || bytesIndexed; }
  /// Unpacked weights of a panel.
  int64_t panelWeights() const { return stepsPerBlock() * layout.step * 16; }

  /// [column / 2][16 rows][2], as bf16; columns that a row's last step does not have are zero,
  /// because tiles read them.
  void unpackPairs(const StepPosition &at, Value base) {
    Parts even;
    auto store = [&](int64_t pair, const Parts &odd) {
      for (int64_t part = 0; part < v.parts; ++part) {
        // Rounded values have zeros below: the pair is the upper half of one, over the other's.
        Value low = v.shiftRight(v.as(even[part], v.ints()), 16);
        Value both = odd.empty() ? low : v.bitOr(low, v.as(odd[part], v.ints()));
        v.store(both, unpacked, base, pair * 32 + part * v.width * 2);
      }
      even.clear();
    };
    decodeStep(at, [&](int64_t column, const Parts &w) {
      if (column % 2)
        store(column / 2, w);
      else
        even = w;
    });
    if (!even.empty())
      store(at.present / 2, {});
    even.assign(v.parts, v.splat(v.floats(), 0.0));
    for (int64_t pair = (at.present + 1) / 2; pair < at.columns / 2; ++pair) {
      store(pair, {});
      even.assign(v.parts, v.splat(v.floats(), 0.0));
    }
  }
  /// One column of a pair, as f32.
  Value halfOfPair(Value base, int64_t which, int64_t part) {
    Value both = v.load(unpacked, base, part * v.width * 2, v.ints());
    return v.as(which ? v.bitAnd(both, 0xffff0000) : v.shiftLeft(both, 16), v.floats());
  }

  Value source() const { return widened ? widened : x.buffer; }
  /// Elements of source() that a value takes: x's buffer is one of bytes unless x is f32.
  int64_t unit() const { return bytesIndexed ? 4 : 1; }
  Value broadcastColumn(Value row, int64_t column) {
    return v.broadcastFloat(v.loadScalar(source(), row, column * unit(), v.b.getF32Type()));
  }

  /// Calls `use` for each column of the step with its values.
  void decodeStep(const StepPosition &at, llvm::function_ref<void(int64_t, const Parts &)> use) {
    // Columns past K are absent from f32 activations.
    for (Segment segment : segments(layout, at.columns, 0)) {
      SegmentLevels levels = weights.levels(at, segment);
      for (int64_t column = segment.begin; column < std::min(segment.end, at.present); ++column)
        use(column, round(weights.column(at, column, levels)));
    }
  }

  Parts round(Parts w) {
    if (rounded)
      for (Value &part : w)
        part = v.roundToBF16(part);
    return w;
  }

  /// Where each token's f32 values of the step are: in x itself, or in scratch after widening.
  SmallVector<Value> widen(Value column, int64_t columns, ArrayRef<Value> tokens) {
    SmallVector<Value> rows;
    for (auto [t, token] : llvm::enumerate(tokens)) {
      if (!widened) {
        rows.push_back(v.add(token, v.mul(column, unit())));
        continue;
      }
      Value row = v.index(t * layout.step);
      rows.push_back(row);
      Value perToken;
      if (x.layout.kind == Activation::Int8)
        perToken = v.loadScalar(x.buffer, token, x.layout.scalesOffset, v.b.getF32Type());
      v.loop(v.index(0), v.index(columns), 32, [&, token = token](Value k) {
        Value at = v.add(column, k);
        Value scale = perToken;
        if (x.layout.kind == Activation::Q8)
          scale = v.loadScalar(x.buffer, v.add(token, v.div(at, 8)), x.layout.scalesOffset,
                               v.b.getF32Type());
        for (int64_t i = 0; i < 32; i += v.width) {
          Value wide;
          if (x.layout.kind == Activation::BF16) {
            Value raw = v.load(x.buffer, v.add(token, v.mul(at, 2)), i * 2,
                               v.vec(v.width, v.b.getI16Type()));
            wide = v.as(v.shiftLeft(v.extendUnsigned(raw, v.ints()), 16), v.floats());
          } else {
            Value raw = v.load(x.buffer, v.add(token, at), i, v.vec(v.width, v.b.getI8Type()));
            wide = v.times(v.toFloat(v.extendSigned(raw, v.ints())), v.broadcastFloat(scale));
          }
          v.store(wide, widened, v.add(row, k), i);
        }
      });
    }
    return rows;
  }

  const bool rounded; ///< weights to bf16
  const bool useTiles;
  const bool bytesIndexed; ///< x is read in place, as f32 in a buffer of bytes
  TileCode tiles;
  Value unpacked, widened;
};
} // namespace

std::unique_ptr<Strategy> conversion::detail::makeFloatStrategy(VectorCode &v,
                                                                const format::PackedLayout &layout,
                                                                WeightReader &weights,
                                                                const ActivationSource &x) {
  return std::make_unique<FloatStrategy>(v, layout, weights, x);
}
