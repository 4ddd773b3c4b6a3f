//===- Float.cpp - Reading and writing the float types --------------------===//
//
// One generic routine serves every binary float of sign, exponent and mantissa; the
// scale types without a sign have their own few lines. The limits of integers, too.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Number.h"
#include "llvm/Support/ErrorHandling.h"
#include <bit>
#include <cmath>
#include <limits>

using namespace quern::format;

namespace {
/// Layout of a sign-exponent-mantissa float.
struct Layout {
  unsigned exponentBits;
  unsigned mantissaBits;
  int bias;
  /// What the largest exponent means: Inf/NaN as in IEEE 754, all ones is NaN, or ordinary values.
  enum class Top { Ieee, OnlyNaN, Finite } top;
};
} // namespace

static Layout layoutOf(FloatKind kind) {
  using Top = Layout::Top;
  switch (kind) {
  case FloatKind::F16:
    return {5, 10, 15, Top::Ieee};
  case FloatKind::BF16:
    return {8, 7, 127, Top::Ieee};
  case FloatKind::F8E4M3FN:
    return {4, 3, 7, Top::OnlyNaN};
  case FloatKind::F8E5M2:
    return {5, 2, 15, Top::Ieee};
  case FloatKind::F6E2M3FN:
    return {2, 3, 1, Top::Finite};
  case FloatKind::F6E3M2FN:
    return {3, 2, 3, Top::Finite};
  case FloatKind::F4E2M1FN:
    return {2, 1, 1, Top::Finite};
  case FloatKind::F8UE4M3: // as if the ignored top bit were the sign
    return {4, 3, 7, Top::OnlyNaN};
  case FloatKind::F32:
  case FloatKind::F64:
  case FloatKind::F8E8M0FNU:
  case FloatKind::F8E8M0Half:
    break;
  }
  llvm_unreachable("not a small sign-exponent-mantissa float");
}

/// 2^exponent for -149 <= exponent <= 127.
static float powerOfTwo(int exponent) {
  return exponent < -126 ? std::bit_cast<float>(1u << (exponent + 149))
                         : std::bit_cast<float>(uint32_t(exponent + 127) << 23);
}

static float decodeSmall(Layout l, uint64_t raw) {
  uint32_t magnitude = raw & ((1u << (l.mantissaBits + l.exponentBits)) - 1);
  uint32_t exponent = magnitude >> l.mantissaBits;
  uint32_t sign = uint32_t(raw >> (l.mantissaBits + l.exponentBits) & 1) << 31;
  uint32_t lastExponent = (1u << l.exponentBits) - 1;
  uint32_t aligned = magnitude << (23 - l.mantissaBits);
  if (exponent == lastExponent && l.top == Layout::Top::Ieee)
    return std::bit_cast<float>(sign | 0x7F800000u | aligned);
  if (exponent == lastExponent && l.top == Layout::Top::OnlyNaN &&
      magnitude == (1u << (l.mantissaBits + l.exponentBits)) - 1)
    return std::bit_cast<float>(sign | 0x7FC00000u);
  // The fields read as an f32 are the value short of the biases' difference, subnormals
  // included; the product is exact, for f32 holds every value of these types.
  float value = std::bit_cast<float>(aligned) * powerOfTwo(127 - l.bias);
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(value));
}

/// The pattern of the largest finite magnitude.
static uint64_t largestPattern(Layout l) {
  uint64_t all = (1u << (l.mantissaBits + l.exponentBits)) - 1;
  switch (l.top) {
  case Layout::Top::Ieee:
    return all - (1u << l.mantissaBits);
  case Layout::Top::OnlyNaN:
    return all - 1;
  case Layout::Top::Finite:
    return all;
  }
  return all;
}

static uint64_t encodeSmall(Layout l, float value) {
  uint64_t signBit = uint64_t(std::signbit(value)) << (l.mantissaBits + l.exponentBits);
  uint64_t all = (1u << (l.mantissaBits + l.exponentBits)) - 1;
  if (std::isnan(value)) {
    if (l.top == Layout::Top::Finite)
      return 0;
    return signBit |
           (l.top == Layout::Top::OnlyNaN ? all
                                          : (largestPattern(l) + 1) | (1u << (l.mantissaBits - 1)));
  }
  uint64_t overflow = largestPattern(l) + (l.top == Layout::Top::Ieee ? 1 : 0);
  if (std::isinf(value))
    return signBit | overflow;
  // The value's significand and exponent, f32 subnormals included.
  uint32_t bits = std::bit_cast<uint32_t>(value) & 0x7FFFFFFFu;
  int field = std::max<int>(bits >> 23, 1);
  uint64_t significand = (bits & 0x7FFFFF) | (bits >> 23 ? 0x800000 : 0);
  // In units of the target's last place at that exponent; exponent 1 serves subnormals too.
  int stored = std::max(field - 127 + l.bias, 1);
  unsigned drop = (23 - l.mantissaBits) + (stored - (field - 127 + l.bias));
  if (drop > 40)
    return signBit; // far below half of the least subnormal
  uint64_t half = uint64_t(1) << (drop - 1), odd = significand >> drop & 1;
  uint64_t mantissa = (significand + half - 1 + odd) >> drop; // ties to even
  // A carry out of the mantissa runs into the exponent field, as it should.
  uint64_t pattern = (uint64_t(stored - 1) << l.mantissaBits) + mantissa;
  return signBit | std::min(pattern, overflow);
}

float quern::format::decodeFloat(FloatKind kind, uint64_t raw) {
  switch (kind) {
  case FloatKind::F32:
    return std::bit_cast<float>(static_cast<uint32_t>(raw));
  case FloatKind::F64:
    return static_cast<float>(std::bit_cast<double>(raw));
  case FloatKind::BF16:
    return std::bit_cast<float>(static_cast<uint32_t>(raw & 0xFFFF) << 16);
  case FloatKind::F8E8M0FNU:
    if ((raw & 0xFF) == 0xFF)
      return std::numeric_limits<float>::quiet_NaN();
    return powerOfTwo(int(raw & 0xFF) - 127);
  case FloatKind::F8E8M0Half:
    return powerOfTwo(int(raw & 0xFF) - 128);
  case FloatKind::F8UE4M3: {
    if ((raw & 0xFF) == 0x7F)
      return 0;
    if ((raw & 0x7F) == 0x7F) // 0xFF: the top bit is ignored, but only 0x7F itself reads as zero
      return 480;
    return decodeSmall(layoutOf(kind), raw & 0x7F);
  }
  default:
    return decodeSmall(layoutOf(kind), raw);
  }
}

/// BF16 is f32's upper half: round the lower half away, ties to even.
static uint64_t encodeBFloat(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value))
    return bits >> 16 | 0x40;
  return (uint64_t(bits) + 0x7FFF + (bits >> 16 & 1)) >> 16;
}

uint64_t quern::format::encodeFloat(FloatKind kind, float value) {
  switch (kind) {
  case FloatKind::F32:
    return std::bit_cast<uint32_t>(value);
  case FloatKind::BF16:
    return encodeBFloat(value);
  case FloatKind::F64:
    return std::bit_cast<uint64_t>(double(value));
  case FloatKind::F8E8M0FNU:
  case FloatKind::F8E8M0Half: {
    if (std::isnan(value))
      return kind == FloatKind::F8E8M0FNU ? 0xFF : 0;
    if (!(value > 0))
      return 0;
    int bias = kind == FloatKind::F8E8M0FNU ? 127 : 128;
    int largest = kind == FloatKind::F8E8M0FNU ? 254 : 255;
    if (std::isinf(value))
      return largest;
    // Nearest power of two; the midpoint 1.5 x 2^e goes to the even exponent code.
    int exponent = std::ilogb(value);
    float mantissa = std::ldexp(value, -exponent);
    int code = exponent + bias;
    if (mantissa > 1.5f || (mantissa == 1.5f && code % 2 != 0))
      ++code;
    return std::min(std::max(code, 0), largest);
  }
  case FloatKind::F8UE4M3:
    return value > 0 ? encodeSmall(layoutOf(kind), value) : 0; // NaN too
  default:
    return encodeSmall(layoutOf(kind), value);
  }
}

float quern::format::maxValue(const Number &number) {
  if (number.isFloat())
    switch (number.floatKind) {
    case FloatKind::F32:
    case FloatKind::F64:
      return std::numeric_limits<float>::max();
    case FloatKind::F8E8M0FNU:
    case FloatKind::F8E8M0Half:
      return powerOfTwo(127);
    default:
      return decodeSmall(layoutOf(number.floatKind), largestPattern(layoutOf(number.floatKind)));
    }
  if (number.kind == Number::Kind::Signed)
    return static_cast<float>((uint64_t(1) << (number.bits - 1)) - 1);
  return number.bits == 64 ? 0x1p64f : static_cast<float>((uint64_t(1) << number.bits) - 1);
}

float quern::format::minValue(const Number &number) {
  if (number.isFloat())
    switch (number.floatKind) {
    case FloatKind::F8E8M0FNU:
      return powerOfTwo(-127);
    case FloatKind::F8E8M0Half:
      return powerOfTwo(-128);
    case FloatKind::F8UE4M3:
      return 0;
    default:
      return -maxValue(number);
    }
  return number.kind == Number::Kind::Signed ? -powerOfTwo(number.bits - 1) : 0;
}
