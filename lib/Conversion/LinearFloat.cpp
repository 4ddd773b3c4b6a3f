//===- LinearFloat.cpp - Linear by decoding weights to f32 ----------------===//
//
// Decodes 16 rows of a column exactly as the format defines, then one fused multiply-add a
// column. Activations that are not f32 are widened a step at a time, into scratch.
//
//===----------------------------------------------------------------------===//
#include "LinearStrategy.h"

using namespace mlir;
using namespace quern;
using namespace quern::conversion;
using namespace quern::conversion::detail;

namespace {
class FloatStrategy final : public Strategy {
public:
  using Strategy::Strategy;

  int64_t stepsPerBlock() const override { return std::max<int64_t>(1, 128 / layout.step); }
  int64_t tokensPerBlock() const override { return v.width == 16 ? 8 : 4; }

  void allocate() override {
    unpacked = v.scratch(stepsPerBlock() * layout.step * 16, v.b.getF32Type());
    if (x.layout.kind != Activation::F32)
      widened = v.scratch(tokensPerBlock() * layout.step, v.b.getF32Type());
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
    decodeStep(at, [&](int64_t column, const Parts &w) {
      for (int64_t part = 0; part < v.parts; ++part)
        v.store(w[part], unpacked, base, column * 16 + part * v.width);
    });
  }

  SmallVector<Parts> blocked(Value slot, StepExtent extent, Value column, ArrayRef<Value> tokens,
                             SmallVector<Parts> acc) override {
    SmallVector<Value> rows = widen(column, extent.columns, tokens);
    Value slotBase = v.mul(slot, layout.step * 16);
    SmallVector<Value> flat;
    for (Parts &parts : acc)
      flat.append(parts.begin(), parts.end());
    flat = v.loop(v.index(0), v.index(extent.present), 1, flat, [&](Value k, ValueRange carried) {
      SmallVector<Value> next(carried);
      Value base = v.add(slotBase, v.mul(k, 16));
      Parts w;
      for (int64_t part = 0; part < v.parts; ++part)
        w.push_back(v.load(unpacked, base, part * v.width, v.floats()));
      for (auto [t, row] : llvm::enumerate(rows)) {
        Value xk = v.broadcastFloat(v.loadScalar(source(), v.add(row, k), 0, v.b.getF32Type()));
        for (int64_t part = 0; part < v.parts; ++part) {
          Value &into = next[t * v.parts + part];
          into = v.fma(w[part], xk, into);
        }
      }
      return next;
    });
    for (auto [i, value] : llvm::enumerate(flat))
      acc[i / v.parts][i % v.parts] = value;
    return acc;
  }

private:
  Value source() const { return widened ? widened : x.buffer; }
  Value broadcastColumn(Value row, int64_t column) {
    return v.broadcastFloat(v.loadScalar(source(), row, column, v.b.getF32Type()));
  }

  /// Calls `use` for each column of the step with its values.
  void decodeStep(const StepPosition &at, llvm::function_ref<void(int64_t, const Parts &)> use) {
    // Columns past K are absent from f32 activations.
    for (Segment segment : segments(layout, at.columns, 0)) {
      SegmentLevels levels = weights.levels(at, segment);
      for (int64_t column = segment.begin; column < std::min(segment.end, at.present); ++column)
        use(column, weights.column(at, column, levels));
    }
  }

  /// Where each token's f32 values of the step are: in x itself, or in scratch after widening.
  SmallVector<Value> widen(Value column, int64_t columns, ArrayRef<Value> tokens) {
    SmallVector<Value> rows;
    for (auto [t, token] : llvm::enumerate(tokens)) {
      if (!widened) {
        rows.push_back(v.add(token, column));
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

  Value unpacked, widened;
};
} // namespace

std::unique_ptr<Strategy> conversion::detail::makeFloatStrategy(VectorCode &v,
                                                                const format::PackedLayout &layout,
                                                                WeightReader &weights,
                                                                const ActivationSource &x) {
  return std::make_unique<FloatStrategy>(v, layout, weights, x);
}
