//===- NumberTest.cpp - Every stored number type, exhaustively ------------===//
//
// Small types are checked on all their patterns and on the midpoints between
// neighbours, against LLVM's APFloat, which shares no code with ours.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Number.h"
#include "llvm/ADT/APFloat.h"
#include <bit>
#include <cmath>
#include <gtest/gtest.h>

using namespace quern::format;

static const llvm::fltSemantics &semantics(FloatKind kind) {
  switch (kind) {
  case FloatKind::F16:
    return llvm::APFloat::IEEEhalf();
  case FloatKind::BF16:
    return llvm::APFloat::BFloat();
  case FloatKind::F8E4M3FN:
    return llvm::APFloat::Float8E4M3FN();
  case FloatKind::F8E5M2:
    return llvm::APFloat::Float8E5M2();
  case FloatKind::F6E2M3FN:
    return llvm::APFloat::Float6E2M3FN();
  case FloatKind::F6E3M2FN:
    return llvm::APFloat::Float6E3M2FN();
  case FloatKind::F4E2M1FN:
    return llvm::APFloat::Float4E2M1FN();
  default:
    return llvm::APFloat::IEEEsingle();
  }
}

static const FloatKind signedKinds[] = {
    FloatKind::F16,      FloatKind::BF16,     FloatKind::F8E4M3FN, FloatKind::F8E5M2,
    FloatKind::F6E2M3FN, FloatKind::F6E3M2FN, FloatKind::F4E2M1FN,
};

static float reference(FloatKind kind, uint64_t raw) {
  llvm::APFloat value(semantics(kind), llvm::APInt(bitWidth(kind), raw));
  bool lost;
  value.convert(llvm::APFloat::IEEEsingle(), llvm::APFloat::rmNearestTiesToEven, &lost);
  return value.convertToFloat();
}

TEST(Number, DecodesEveryPattern) {
  for (FloatKind kind : signedKinds)
    for (uint64_t raw = 0; raw < uint64_t(1) << bitWidth(kind); ++raw) {
      float ours = decodeFloat(kind, raw), theirs = reference(kind, raw);
      if (std::isnan(theirs))
        EXPECT_TRUE(std::isnan(ours)) << name(kind).str() << " " << raw;
      else
        EXPECT_EQ(std::bit_cast<uint32_t>(ours), std::bit_cast<uint32_t>(theirs))
            << name(kind).str() << " " << raw;
    }
}

TEST(Number, EncodesToNearestTiesToEven) {
  for (FloatKind kind : signedKinds) {
    uint64_t positives = uint64_t(1) << (bitWidth(kind) - 1);
    for (uint64_t raw = 0; raw + 1 < positives; ++raw) {
      float low = decodeFloat(kind, raw), high = decodeFloat(kind, raw + 1);
      if (!std::isfinite(high))
        break;
      float middle = float((double(low) + high) / 2);
      float below = std::nextafter(middle, low), above = std::nextafter(middle, high);
      ASSERT_EQ(encodeFloat(kind, low), raw) << name(kind).str();
      ASSERT_EQ(encodeFloat(kind, below), raw) << name(kind).str();
      ASSERT_EQ(encodeFloat(kind, middle), raw + raw % 2) << name(kind).str();
      ASSERT_EQ(encodeFloat(kind, above), raw + 1) << name(kind).str();
      ASSERT_EQ(encodeFloat(kind, -above), (raw + 1) | positives) << name(kind).str();
    }
    Number number = Number::floating(kind);
    float largest = maxValue(number);
    EXPECT_TRUE(std::isfinite(largest));
    EXPECT_EQ(decodeFloat(kind, encodeFloat(kind, largest)), largest);
    EXPECT_EQ(minValue(number), -largest);
    float beyond = decodeFloat(kind, encodeFloat(kind, 3e38f));
    bool hasInfinity = kind == FloatKind::F16 || kind == FloatKind::F8E5M2;
    if (kind != FloatKind::BF16)
      EXPECT_EQ(beyond, hasInfinity ? INFINITY : largest) << name(kind).str();
    float nan = decodeFloat(kind, encodeFloat(kind, NAN));
    EXPECT_TRUE(std::isnan(nan) || nan == 0);
  }
}

TEST(Number, ScaleTypes) {
  for (int raw = 0; raw < 255; ++raw) {
    EXPECT_EQ(decodeFloat(FloatKind::F8E8M0FNU, raw), std::ldexp(1.0f, raw - 127));
    EXPECT_EQ(encodeFloat(FloatKind::F8E8M0FNU, std::ldexp(1.0f, raw - 127)), uint64_t(raw));
  }
  EXPECT_TRUE(std::isnan(decodeFloat(FloatKind::F8E8M0FNU, 255)));
  EXPECT_EQ(decodeFloat(FloatKind::F8E8M0Half, 255), std::ldexp(1.0f, 127));
  EXPECT_EQ(encodeFloat(FloatKind::F8E8M0Half, 1.0f), 128u);
  EXPECT_EQ(encodeFloat(FloatKind::F8E8M0FNU, 1.5f), 128u); // tie to even
  EXPECT_EQ(encodeFloat(FloatKind::F8E8M0FNU, 3.0f), 128u);
  EXPECT_EQ(encodeFloat(FloatKind::F8E8M0FNU, 3.1f), 129u);
  EXPECT_EQ(encodeFloat(FloatKind::F8E8M0FNU, 0.0f), 0u);
  EXPECT_EQ(encodeFloat(FloatKind::F8E8M0FNU, INFINITY), 254u);
  for (int raw = 0; raw < 127; ++raw) {
    EXPECT_EQ(decodeFloat(FloatKind::F8UE4M3, raw), reference(FloatKind::F8E4M3FN, raw));
    EXPECT_EQ(decodeFloat(FloatKind::F8UE4M3, raw + 128), decodeFloat(FloatKind::F8UE4M3, raw));
    EXPECT_EQ(encodeFloat(FloatKind::F8UE4M3, decodeFloat(FloatKind::F8UE4M3, raw)), uint64_t(raw));
  }
  EXPECT_EQ(decodeFloat(FloatKind::F8UE4M3, 127), 0);
  EXPECT_EQ(encodeFloat(FloatKind::F8UE4M3, -1), 0u);
  EXPECT_EQ(encodeFloat(FloatKind::F8UE4M3, 1e9f), 126u);
}

TEST(Number, Integers) {
  Number i4 = Number::signedInt(4), u6 = Number::unsignedInt(6), i64 = Number::signedInt(64);
  EXPECT_EQ(decodeNumber(i4, 0x8), -8);
  EXPECT_EQ(decodeNumber(i4, 0xF7), 7); // higher bits are ignored
  EXPECT_EQ(decodeNumber(u6, 0xFF), 63);
  EXPECT_EQ(decodeNumber(i64, ~uint64_t(0)), -1);
  EXPECT_EQ(encodeNumber(i4, 2.5f), 2u);
  EXPECT_EQ(encodeNumber(i4, 3.5f), 4u);
  EXPECT_EQ(encodeNumber(i4, -8.4f), 8u);
  EXPECT_EQ(encodeNumber(i4, -100), 8u);
  EXPECT_EQ(encodeNumber(i4, 100), 7u);
  EXPECT_EQ(encodeNumber(u6, -3), 0u);
  EXPECT_EQ(encodeNumber(u6, INFINITY), 63u);
  EXPECT_EQ(encodeNumber(i64, -1e30f), uint64_t(1) << 63);
  EXPECT_EQ(encodeNumber(i64, 1e30f), ~uint64_t(0) >> 1);
  EXPECT_EQ(encodeNumber(u6, NAN), 0u);
  EXPECT_EQ(maxValue(i4), 7);
  EXPECT_EQ(minValue(i4), -8);
  EXPECT_EQ(maxValue(u6), 63);
}
