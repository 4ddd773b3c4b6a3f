//===- QuantizeActivations.cpp - From f32 rows to what linears read -------===//
//
// The definition is in Reference/Activations.h; this produces the same codes and scales,
// and the sums of codes that formats with offsets or biased codes need.
//
//===----------------------------------------------------------------------===//
#include "LinearBuilder.h"
#include "quern/Conversion/LinearEmitter.h"

using namespace mlir;
using namespace quern;
using namespace quern::conversion;
using namespace quern::conversion::detail;

/// 2^-100: smaller maxima count as this much (Reference/Activations.h).
static constexpr int64_t smallestAbsMaxBits = 0x0D800000;
static constexpr int64_t group = 32;

namespace {
class Quantizer {
public:
  Quantizer(VectorCode &v, ActivationLayout layout, Value x, Value dest,
            const QuantizeActivations &options)
      : v(v), layout(layout), x(x), dest(dest), constants(options.constants),
        largestCode(float(options.largestCode)), outlierThreshold(options.outlierThreshold),
        f32x32(v.vec(group, v.b.getF32Type())), i32x32(v.vec(group, v.b.getI32Type())) {}

  void row(Value token) {
    start = v.mul(token, layout.bytes);
    for (int64_t k = 0; k < layout.plain; k += group)
      v.store(vector::LoadOp::create(v.b, v.loc, f32x32, x, ValueRange{token, v.index(k)}), dest,
              start, 4 * k);
    start = v.add(start, layout.base);
    Value scalar;
    if (constants) {
      storeFloat(constant(constants->scale), start, layout.scalesOffset);
    } else if (layout.kind == Activation::Int8) {
      Value largest = v.splat(i32x32, smallestAbsMaxBits);
      if (layout.k >= group)
        largest = v.loop(v.index(0), v.index(layout.k / group * group), group, {largest},
                         [&](Value k, ValueRange carried) -> SmallVector<Value> {
                           return {maximum(carried[0], magnitudes(load(token, k, false)))};
                         })[0];
      if (layout.k % group)
        largest =
            maximum(largest, magnitudes(load(token, v.index(layout.k / group * group), true)));
      scalar = reduceMax(largest);
      storeScale(scalar, start, layout.scalesOffset);
    }
    auto step = [&](Value k, bool partial) {
      Value values = load(token, k, partial);
      if (layout.kind == Activation::BF16) {
        values = roundToBF16(values, k);
        return v.target.hasWordProducts() ? encodeWords(values, k) : void();
      }
      if (constants)
        return encode(staticCodes(values, partial), k);
      Value absMax = scalar;
      if (!absMax) {
        Value floor = v.splat(i32x32, smallestAbsMaxBits);
        absMax = reduceMax(maximum(magnitudes(values), floor));
        storeScale(absMax, v.add(start, v.div(k, 8)), layout.scalesOffset);
      }
      encode(codes(values, absMax), k);
    };
    if (layout.k >= group)
      v.loop(v.index(0), v.index(layout.k / group * group), group,
             [&](Value k) { step(k, false); });
    if (layout.k % group)
      step(v.index(layout.k / group * group), true);
  }

private:
  Value load(Value token, Value k, bool partial) {
    k = v.add(k, layout.plain);
    Value values;
    if (partial)
      values = vector::MaskedLoadOp::create(v.b, v.loc, f32x32, x, ValueRange{token, k}, mask(),
                                            v.splat(f32x32, 0.0));
    else
      values = vector::LoadOp::create(v.b, v.loc, f32x32, x, ValueRange{token, k});
    if (!outlierThreshold)
      return values;
    Value magnitude = v.as(magnitudes(values), f32x32);
    Value large = arith::CmpFOp::create(v.b, v.loc, arith::CmpFPredicate::OGE, magnitude,
                                        v.splat(f32x32, double(*outlierThreshold)));
    return arith::SelectOp::create(v.b, v.loc, large, v.splat(f32x32, 0.0), values);
  }
  /// Of the columns of a last, partial group.
  Value mask() {
    return vector::ConstantMaskOp::create(v.b, v.loc, v.vec(group, v.b.getI1Type()),
                                          ArrayRef<int64_t>{layout.k % group});
  }
  Value magnitudes(Value values) { return v.bitAnd(v.as(values, i32x32), 0x7fffffff); }
  Value maximum(Value a, Value c) { return arith::MaxUIOp::create(v.b, v.loc, a, c); }
  Value reduceMax(Value bits) {
    Value largest = vector::ReductionOp::create(v.b, v.loc, vector::CombiningKind::MAXUI, bits);
    return arith::BitcastOp::create(v.b, v.loc, v.b.getF32Type(), largest);
  }
  Value constant(float value) {
    return arith::ConstantOp::create(v.b, v.loc, v.b.getF32FloatAttr(value));
  }
  void storeFloat(Value scalar, Value at, int64_t offset) {
    v.store(v.broadcast(v.vec(1, v.b.getF32Type()), scalar), dest, at, offset);
  }
  void storeScale(Value absMax, Value at, int64_t offset) {
    storeFloat(arith::DivFOp::create(v.b, v.loc, absMax, constant(largestCode)), at, offset);
  }

  Value codes(Value values, Value absMax) {
    Value inverse = arith::DivFOp::create(v.b, v.loc, constant(largestCode), absMax);
    Value scaled = v.times(values, v.broadcast(f32x32, inverse));
    Value rounded = LLVM::RoundEvenOp::create(v.b, v.loc, f32x32, scaled);
    return arith::FPToSIOp::create(v.b, v.loc, i32x32, rounded);
  }

  /// Values that end up at an end of the range, or are NaN, are decided before the conversion.
  Value staticCodes(Value values, bool partial) {
    Value scaled = v.times(values, v.splat(f32x32, 1.0f / constants->scale));
    Value rounded = LLVM::RoundEvenOp::create(v.b, v.loc, f32x32, scaled);
    Value low = v.splat(f32x32, -127.0 - constants->zero);
    Value high = v.splat(f32x32, 127.0 - constants->zero);
    auto keep = [&](arith::CmpFPredicate when, Value limit) {
      Value inside = arith::CmpFOp::create(v.b, v.loc, when, rounded, limit);
      rounded = arith::SelectOp::create(v.b, v.loc, inside, rounded, limit);
    };
    keep(arith::CmpFPredicate::OGT, low);
    keep(arith::CmpFPredicate::OLT, high);
    Value ints = arith::FPToSIOp::create(v.b, v.loc, i32x32, rounded);
    if (!constants->zero)
      return ints;
    ints = arith::AddIOp::create(v.b, v.loc, ints, v.splat(i32x32, int64_t(constants->zero)));
    if (!partial)
      return ints;
    // Columns beyond K have code 0.
    return arith::SelectOp::create(v.b, v.loc, mask(), ints, v.splat(i32x32, int64_t(0)));
  }

  void encode(Value ints, Value k) {
    v.store(arith::TruncIOp::create(v.b, v.loc, v.vec(group, v.b.getI8Type()), ints), dest,
            v.add(start, k), 0);
    Value by32 = v.add(start, v.div(k, 8)), by16 = v.add(start, v.div(k, 4));
    Value halves[2];
    for (int64_t i = 0; i < 4; ++i) {
      Value slice = vector::ExtractStridedSliceOp::create(
          v.b, v.loc, ints, ArrayRef<int64_t>{8 * i}, ArrayRef<int64_t>{8}, ArrayRef<int64_t>{1});
      Value sum = vector::ReductionOp::create(v.b, v.loc, vector::CombiningKind::ADD, slice);
      Value narrow = arith::TruncIOp::create(v.b, v.loc, v.b.getI16Type(), sum);
      v.store(v.broadcast(v.vec(1, v.b.getI16Type()), narrow), dest, by16,
              layout.sums8Offset + 2 * i);
      Value &half = halves[i / 2];
      half = half ? arith::AddIOp::create(v.b, v.loc, half, sum) : sum;
    }
    for (int64_t i = 0; i < 2; ++i)
      storeFloat(toFloat(halves[i]), by16, layout.sums16Offset + 4 * i);
    Value all = arith::AddIOp::create(v.b, v.loc, halves[0], halves[1]);
    storeFloat(toFloat(all), by32, layout.sums32Offset);
  }
  Value toFloat(Value scalar) {
    return arith::SIToFPOp::create(v.b, v.loc, v.b.getF32Type(), scalar);
  }

  Value roundToBF16(Value values, Value k) {
    Value rounded = v.roundToBF16(values);
    if (!v.target.amxBf16) {
      v.store(rounded, dest, v.add(start, v.mul(k, 4)), 0);
      return rounded;
    }
    Value bits = v.shiftRight(v.as(rounded, i32x32), 16);
    Value narrow = arith::TruncIOp::create(v.b, v.loc, v.vec(group, v.b.getI16Type()), bits);
    v.store(narrow, dest, v.add(start, v.mul(k, 2)), 0);
    return rounded;
  }

  /// Values of bf16 as int16 with a power of two as scale. See ActivationLayout.
  void encodeWords(Value values, Value k) {
    Value absMax = reduceMax(maximum(magnitudes(values), v.splat(i32x32, smallestAbsMaxBits)));
    Type i32 = v.b.getI32Type(), f32 = v.b.getF32Type();
    auto integer = [&](int64_t value) {
      return arith::ConstantOp::create(v.b, v.loc, v.b.getI32IntegerAttr(value));
    };
    auto asFloat = [&](Value bits) { return arith::BitcastOp::create(v.b, v.loc, f32, bits); };
    Value bits = arith::BitcastOp::create(v.b, v.loc, i32, absMax);
    Value exponent = arith::AndIOp::create(v.b, v.loc, bits, integer(0x7f800000));
    Value step = asFloat(arith::SubIOp::create(v.b, v.loc, exponent, integer(14 << 23)));
    // 1 / step: exponents add up to twice the bias.
    Value inverse =
        asFloat(arith::SubIOp::create(v.b, v.loc, integer((2 * 127 + 14) << 23), exponent));
    // Infinity and NaN have to reach the result: they make the scale NaN.
    Value notFinite = arith::SubFOp::create(v.b, v.loc, absMax, absMax);
    Value by32 = v.add(start, v.div(k, 8)), by16 = v.add(start, v.div(k, 4));
    storeFloat(arith::AddFOp::create(v.b, v.loc, step, notFinite), by32, layout.scalesOffset);

    Value scaled = v.times(values, v.broadcast(f32x32, inverse));
    Value ints = arith::FPToSIOp::create(v.b, v.loc, i32x32,
                                         LLVM::RoundEvenOp::create(v.b, v.loc, f32x32, scaled));
    SmallVector<int64_t> order;
    for (int64_t quad = 0; quad < group; quad += 4)
      order.append({quad, quad + 2, quad + 1, quad + 3});
    Value ordered = vector::ShuffleOp::create(v.b, v.loc, ints, ints, order);
    v.store(arith::TruncIOp::create(v.b, v.loc, v.vec(group, v.b.getI16Type()), ordered), dest,
            v.add(start, v.mul(k, 2)), layout.codesOffset);
    Value all, half;
    for (int64_t i = 0; i < 4; ++i) {
      Value slice = vector::ExtractStridedSliceOp::create(
          v.b, v.loc, ints, ArrayRef<int64_t>{8 * i}, ArrayRef<int64_t>{8}, ArrayRef<int64_t>{1});
      Value sum = vector::ReductionOp::create(v.b, v.loc, vector::CombiningKind::ADD, slice);
      storeFloat(toFloat(sum), v.add(start, v.div(k, 2)), layout.sums8Offset + 4 * i);
      half = i % 2 ? arith::AddIOp::create(v.b, v.loc, half, sum) : sum;
      if (i % 2) {
        storeFloat(toFloat(half), by16, layout.sums16Offset + 4 * (i / 2));
        all = all ? arith::AddIOp::create(v.b, v.loc, all, half) : half;
      }
    }
    storeFloat(toFloat(all), by32, layout.sums32Offset);
  }

  VectorCode &v;
  ActivationLayout layout;
  Value x, dest;
  std::optional<StaticActivations> constants;
  float largestCode;
  std::optional<float> outlierThreshold;
  VectorType f32x32, i32x32;
  Value start;
};
} // namespace

void conversion::emitQuantizeActivations(OpBuilder &builder, Location loc, Activation kind,
                                         int64_t k, const target::TargetInfo &target, Value x,
                                         Value dest, Value begin, Value end,
                                         const QuantizeActivations &options) {
  assert((!options.constants || (kind == Activation::Int8 && options.largestCode == 127)) &&
         "only int8 has a static scale");
  assert((!options.plain || (kind == Activation::Int8 && options.plain % group == 0)) &&
         "whole groups of columns in front of int8");
  VectorCode v(builder, loc, target);
  Quantizer quantizer(v, ActivationLayout::get(kind, k, options.plain), x, dest, options);
  v.loop(begin, end, 1, [&](Value token) { quantizer.row(token); });
}
