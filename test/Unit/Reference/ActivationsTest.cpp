// The definition of quantized activations, and the roundings of the KV cache.
#include "quern/Reference/Activations.h"
#include "quern/Reference/Attention.h"
#include "gtest/gtest.h"
#include <bit>
#include <cfloat>
#include <cmath>
#include <random>

using namespace quern::reference;

namespace {
std::vector<float> randomValues(size_t count, uint32_t seed, float deviation = 1) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> values(count);
  for (float &v : values)
    v = normal(engine);
  return values;
}
} // namespace

TEST(Activations, CodesAreTheNearestAndTiesGoToEven) {
  // With absmax 127 the scale is 1, so the codes are the values rounded.
  std::vector<float> x = {127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 3.49f, -126.5f};
  std::vector<int8_t> codes(x.size());
  EXPECT_EQ(quantizeGroup(x, codes), 1.0f);
  EXPECT_EQ(codes, (std::vector<int8_t>{127, 0, 2, 2, 0, -2, -2, 3, -126}));
}

TEST(Activations, TheErrorIsAtMostHalfAStep) {
  std::vector<float> x = randomValues(96 + 7, 1); // the last group is partial
  std::vector<int8_t> codes(x.size());
  std::vector<float> scales(4);
  quantizeRow(x, 32, codes, scales);
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_LE(std::fabs(x[i] - codes[i] * scales[i / 32]), 0.5001 * scales[i / 32]) << i;
    EXPECT_LE(std::abs(codes[i]), 127);
  }
  // Each group's scale is its own.
  EXPECT_EQ(scales[3], groupAbsMax(std::span(x).subspan(96)) / 127);
}

TEST(Activations, CodesNeverLeaveTheSymmetricRange) {
  std::mt19937 engine(7);
  for (int i = 0; i < 200000; ++i) {
    float x = std::fabs(std::bit_cast<float>(uint32_t(engine())));
    if (!std::isfinite(x))
      continue;
    std::vector<float> group = {x, -x};
    std::vector<int8_t> codes(2);
    float scale = quantizeGroup(group, codes);
    ASSERT_TRUE(std::isnormal(scale)) << x;
    ASSERT_EQ(codes[0], -codes[1]) << x;
    ASSERT_TRUE(x < 0x1p-100f ? codes[0] >= 0 : codes[0] == 127) << x;
  }
}

TEST(Activations, ZerosAndDenormalsGiveZeroCodes) {
  std::vector<float> x = {0.0f, -0.0f, FLT_TRUE_MIN, -FLT_MIN};
  std::vector<int8_t> codes(4, 9);
  EXPECT_EQ(quantizeGroup(x, codes), 0x1p-100f / 127);
  EXPECT_EQ(codes, std::vector<int8_t>(4, 0));
}

TEST(Activations, WhatIsNotFiniteReachesTheScale) {
  std::vector<int8_t> codes(3);
  EXPECT_TRUE(std::isinf(quantizeGroup(std::vector<float>{1, -INFINITY, 2}, codes)));
  for (float nan : {NAN, -NAN}) {
    // Wherever it stands, and even beside an infinity.
    EXPECT_TRUE(std::isnan(quantizeGroup(std::vector<float>{nan, 1, INFINITY}, codes)));
    EXPECT_TRUE(std::isnan(quantizeGroup(std::vector<float>{INFINITY, 1, nan}, codes)));
  }
}

TEST(Activations, RowsStandForCodeTimesScale) {
  std::vector<float> x = randomValues(40, 3);
  std::vector<int8_t> codes(40);
  std::vector<float> scales(2);
  quantizeRow(x, 32, codes, scales);
  std::vector<double> q8 = roundActivations(x, ActivationFormat::Q8);
  std::vector<double> perToken = roundActivations(x, ActivationFormat::Int8);
  float scale = quantizeGroup(x, codes);
  EXPECT_EQ(perToken[39], double(codes[39]) * scale);
  quantizeRow(x, 32, codes, scales);
  EXPECT_EQ(q8[39], double(codes[39]) * scales[1]);
  EXPECT_EQ(roundActivations(x, ActivationFormat::F32)[5], x[5]);
  EXPECT_EQ(roundActivations(x, ActivationFormat::BF16)[5], roundToBF16(x[5]));
}

TEST(Rounding, BF16IsTheNearestOfItsNeighbours) {
  for (float x : randomValues(10000, 4)) {
    float low = std::bit_cast<float>(std::bit_cast<uint32_t>(x) & 0xffff0000u);
    float high = std::bit_cast<float>((std::bit_cast<uint32_t>(x) & 0xffff0000u) + 0x10000u);
    float nearest = std::fabs(x - low) <= std::fabs(high - x) ? low : high;
    EXPECT_EQ(roundToBF16(x), nearest) << x;
  }
  EXPECT_EQ(roundToBF16(1.00390625f), 1.0f);      // tie, down to even
  EXPECT_EQ(roundToBF16(1.01171875f), 1.015625f); // tie, up to even
  EXPECT_TRUE(std::isinf(roundToBF16(FLT_MAX)));
  EXPECT_TRUE(std::isnan(roundToBF16(std::bit_cast<float>(0x7f800001u))));
}

TEST(Rounding, F16AgreesWithTheCompilersConversion) {
  std::mt19937 engine(5);
  auto check = [](float x) {
    EXPECT_EQ(std::bit_cast<uint32_t>(roundToF16(x)), std::bit_cast<uint32_t>(float(_Float16(x))))
        << x;
  };
  for (int i = 0; i < 100000; ++i) {
    float x = std::bit_cast<float>(uint32_t(engine()));
    if (!std::isnan(x))
      check(x);
  }
  for (float deviation : {1e-7f, 1e-5f, 1.f, 3e4f}) // subnormals, normals, overflow
    for (float x : randomValues(20000, 6, deviation))
      check(x);
  for (float x : {65504.f, 65519.99f, 65520.f, 0x1p-24f, 0x1p-25f, 0x1.8p-24f, 0x1p-14f, -0.f})
    check(x);
  EXPECT_TRUE(std::isnan(roundToF16(NAN)));
}

TEST(Rounding, CacheGroupsLieWithinAHead) {
  std::vector<float> head(40, 1.0f);
  head[3] = 127;
  head[35] = 2; // the group of the last 8 has a scale of its own
  roundToCache(CacheFormat::Q8_0, head);
  EXPECT_EQ(head[0], 1.0f);
  EXPECT_EQ(head[3], 127.0f);
  // 2/127 rounds to f16; the code of 2 is 127, that of 1 is 64 (63.5, to even).
  float scale = roundToF16(2.0f / 127);
  EXPECT_EQ(head[35], 127 * scale);
  EXPECT_EQ(head[39], 64 * scale);
}
