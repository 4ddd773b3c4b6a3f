//===- LinearLevels.cpp - Scales, offsets and zeros of packed weights -----===//
//
// Decodes the numbers that levels are made of, and applies them to codes.
//
//===----------------------------------------------------------------------===//
#include "LinearWeights.h"
#include "quern/Format/Number.h"
#include <cmath>

using namespace mlir;
using namespace quern;
using namespace quern::conversion::detail;
using format::FloatKind;
using format::LevelRole;
using format::PackedLevel;

/// The value of patterns of a float of at most 8 bits, zero-extended to 32.
Value WeightReader::smallFloat(FloatKind kind, Value bits) {
  VectorType ints = v.ints(), floats = v.floats();
  auto choose = [&](Value isSpecial, double special, Value otherwise) -> Value {
    return arith::SelectOp::create(v.b, v.loc, isSpecial, v.splat(floats, special), otherwise);
  };
  auto is = [&](Value a, int64_t pattern) -> Value {
    return arith::CmpIOp::create(v.b, v.loc, arith::CmpIPredicate::eq, a, v.splat(ints, pattern));
  };
  auto signMantissa = [&](unsigned exponentBits, unsigned mantissaBits, int exponentBias) {
    unsigned magnitudeBits = exponentBits + mantissaBits;
    Value magnitude = v.bitAnd(bits, (1 << magnitudeBits) - 1);
    Value sign = v.shiftLeft(v.bitAnd(bits, 1 << magnitudeBits), 31 - magnitudeBits);
    // With the fields in f32's place, only the exponent's bias is off; subnormals come right too.
    Value patterns = v.bitOr(v.shiftLeft(magnitude, 23 - mantissaBits), sign);
    return v.times(v.as(patterns, floats), v.splat(floats, std::ldexp(1.0, 127 - exponentBias)));
  };
  switch (kind) {
  case FloatKind::F8E5M2: { // the upper half of an f16
    Value half =
        arith::TruncIOp::create(v.b, v.loc, v.vec(v.width, v.b.getI16Type()), v.shiftLeft(bits, 8));
    return arith::ExtFOp::create(v.b, v.loc, floats, v.as(half, v.vec(v.width, v.b.getF16Type())));
  }
  case FloatKind::F8E4M3FN:
    return choose(is(v.bitAnd(bits, 0x7f), 0x7f), NAN, signMantissa(4, 3, 7));
  case FloatKind::F8UE4M3: {
    Value magnitude = v.times(v.as(v.shiftLeft(v.bitAnd(bits, 0x7f), 20), floats),
                              v.splat(floats, std::ldexp(1.0, 120)));
    return choose(is(bits, 0x7f), 0, magnitude);
  }
  case FloatKind::F6E2M3FN:
    return signMantissa(2, 3, 1);
  case FloatKind::F6E3M2FN:
    return signMantissa(3, 2, 3);
  case FloatKind::F4E2M1FN:
    return signMantissa(2, 1, 1);
  case FloatKind::F8E8M0FNU:
  case FloatKind::F8E8M0Half: {
    // 2^(x - 127) or 2^(x - 128) as the product of two normal powers of two, for its ends are not.
    Value low = v.shiftRight(bits, 1);
    Value high = v.shiftRight(v.plus(bits, v.splat(ints, int64_t(1))), 1);
    int64_t extra = kind == FloatKind::F8E8M0FNU ? 64 : 63;
    Value a = v.as(v.shiftLeft(v.plus(low, v.splat(ints, int64_t(63))), 23), floats);
    Value c = v.as(v.shiftLeft(v.plus(high, v.splat(ints, extra)), 23), floats);
    Value product = v.times(a, c);
    return kind == FloatKind::F8E8M0FNU ? choose(is(bits, 0xff), NAN, product) : product;
  }
  default:
    return {};
  }
}

/// `bits` are zero-extended to 32; `biased`: see PackedLayout::isBiased.
Value WeightReader::decodeNumber(const format::Number &number, bool biased, Value bits) {
  if (number.isFloat()) {
    switch (number.floatKind) {
    case FloatKind::F32:
    case FloatKind::F64:
      return v.as(bits, v.floats());
    case FloatKind::BF16:
      return v.as(v.shiftLeft(bits, 16), v.floats());
    case FloatKind::F16: {
      Value half = arith::TruncIOp::create(v.b, v.loc, v.vec(v.width, v.b.getI16Type()), bits);
      return arith::ExtFOp::create(v.b, v.loc, v.floats(),
                                   v.as(half, v.vec(v.width, v.b.getF16Type())));
    }
    default:
      return smallFloat(number.floatKind, bits);
    }
  }
  if (biased)
    return v.toFloat(v.minus(bits, v.splat(v.ints(), int64_t(1) << (number.bits - 1))));
  if (number.kind == format::Number::Kind::Signed) {
    Value up = v.shiftLeft(bits, 32 - number.bits);
    return v.toFloat(
        arith::ShRSIOp::create(v.b, v.loc, up, v.splat(v.ints(), int64_t(32 - number.bits))));
  }
  if (number.bits == 32)
    return arith::UIToFPOp::create(v.b, v.loc, v.floats(), bits);
  return v.toFloat(bits);
}

//===--- Levels -----------------------------------------------------------===//

Value WeightReader::levelValue(const StepPosition &at, const PackedLevel &level, int64_t column,
                               int64_t part) {
  Value base = at.header, group = v.index(0);
  if (int64_t g = level.groupColumns) {
    base = at.chunk;
    if (g % layout.step == 0)
      group = v.div(at.stepInChunk, g / layout.step);
    else if (layout.step % g == 0)
      group = v.add(v.mul(at.stepInChunk, layout.step / g), column / g);
    else
      group = v.div(v.add(v.mul(at.stepInChunk, layout.step), column), g);
  }
  Value bits;
  for (const format::BitPlane &plane : level.planes) {
    Value piece;
    if (plane.width >= 8) {
      int64_t bytesEach = plane.width / 8;
      Value at = v.add(base, v.mul(group, 16 * bytesEach));
      VectorType stored = v.vec(v.width, v.b.getIntegerType(plane.width));
      piece = v.load(weights, at, plane.offset + part * v.width * bytesEach, stored);
      if (plane.width < 32)
        piece = v.extendUnsigned(piece, v.ints());
    } else {
      int64_t perByte = 8 / plane.width;
      Value at = v.add(base, v.mul(v.div(group, perByte), 16));
      piece = v.load(weights, at, plane.offset + part * v.width, v.vec(v.width, v.b.getI8Type()));
      piece = v.extendUnsigned(piece, v.ints());
      piece = v.shiftRight(piece, v.mul(v.rem(group, perByte), plane.width));
      piece = v.shiftLeft(v.bitAnd(piece, (1 << plane.width) - 1), plane.shift);
    }
    bits = bits ? v.bitOr(bits, piece) : piece;
  }
  bool biased = format::PackedLayout::isBiased(level.level.number);
  Value value = decodeNumber(level.level.number, biased, bits);
  if (level.level.addend != 0)
    value = v.plus(value, v.splat(v.floats(), double(level.level.addend)));
  if (level.level.multiplier != 1)
    value = v.times(value, v.splat(v.floats(), double(level.level.multiplier)));
  return value;
}

SegmentLevels WeightReader::levels(const StepPosition &at, Segment segment) {
  SegmentLevels result;
  for (const PackedLevel &level : layout.levels) {
    Parts &into = level.role == LevelRole::Scale    ? result.scale
                  : level.role == LevelRole::Offset ? result.offset
                                                    : result.zero;
    into.resize(v.parts);
    for (int64_t part = 0; part < v.parts; ++part) {
      Value value = levelValue(at, level, segment.begin, part);
      into[part] = into[part] ? v.times(into[part], value) : value;
    }
  }
  if (layout.spec.offsetSign < 0)
    for (Value &offset : result.offset)
      offset = arith::NegFOp::create(v.b, v.loc, offset);
  return result;
}

Parts WeightReader::column(const StepPosition &at, int64_t column, const SegmentLevels &levels) {
  Parts result;
  for (int64_t part = 0; part < v.parts; ++part) {
    // In the order the format defines, each operation rounded on its own.
    Value value = columnValues(at, column, part);
    if (!levels.zero.empty())
      value = v.minus(value, levels.zero[part]);
    if (!levels.scale.empty())
      value = v.times(value, levels.scale[part]);
    if (!levels.offset.empty())
      value = v.plus(value, levels.offset[part]);
    result.push_back(value);
  }
  return result;
}
