//===- DecodeTest.cpp - The meaning of levels, sums and splits ------------===//
//
// Small matrices whose values can be worked out by hand, for each part of the
// algebra.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Components.h"
#include "quern/Format/Number.h"
#include <cmath>
#include <gtest/gtest.h>

using namespace quern::format;

static Spec parsed(llvm::StringRef text) { return llvm::cantFail(parse(text)); }

static void fill(Stream &stream, const Number &number, std::vector<float> values) {
  ASSERT_EQ(stream.rows * stream.cols, int64_t(values.size()));
  for (size_t i = 0; i < values.size(); ++i)
    stream.set(i / stream.cols, i % stream.cols, encodeNumber(number, values[i]));
}

static std::vector<float> decoded(const Spec &spec, const Components &c) {
  std::vector<float> out(c.rows * c.cols);
  llvm::cantFail(decode(spec, c, out));
  return out;
}

TEST(Decode, LevelsZerosAndOffsets) {
  Spec spec = parsed("ui4, scale f16[1x4] * ui4[1x2], minus f16[1x4], zero ui4[1x2]");
  Components c;
  allocate(spec, 0, 1, 6, c); // the second tile is partial
  fill(c.codes, spec.code.number, {1, 2, 3, 4, 5, 6, 0, 0});
  fill(c.scale[0], spec.scale[0].number, {0.5, 2});
  fill(c.scale[1], spec.scale[1].number, {2, 3, 1, 9});
  fill(c.offset[0], spec.offset[0].number, {10, -1});
  fill(c.zero[0], spec.zero[0].number, {1, 2, 8, 0});
  EXPECT_EQ(decoded(spec, c), (std::vector<float>{-10, -9, -8.5, -7, -5, -3}));
}

TEST(Decode, TilesOfRowsAndWholeDimensions) {
  Spec spec = parsed("i8, scale f32[*] * f16[2x*], plus f16[*x2]");
  Components c;
  allocate(spec, 0, 3, 4, c);
  fill(c.codes, spec.code.number, {1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3});
  fill(c.scale[0], spec.scale[0].number, {10});
  fill(c.scale[1], spec.scale[1].number, {1, 2});
  fill(c.offset[0], spec.offset[0].number, {0, 0.5});
  EXPECT_EQ(decoded(spec, c),
            (std::vector<float>{10, 10, 10.5, 10.5, 20, 20, 20.5, 20.5, 60, 60, 60.5, 60.5}));
  // Rows 1 and 2 alone lie in both tiles.
  Components slice;
  allocate(spec, 1, 2, 4, slice);
  fill(slice.codes, spec.code.number, {2, 2, 2, 2, 3, 3, 3, 3});
  slice.scale = c.scale;
  slice.offset = c.offset;
  EXPECT_EQ(decoded(spec, slice), (std::vector<float>{20, 20, 20.5, 20.5, 60, 60, 60.5, 60.5}));
}

TEST(Decode, AffineLevels) {
  Spec spec = parsed("i8, scale f16[1x4] * ui3[1x2, +0.5, x0.25]");
  Components c;
  allocate(spec, 0, 1, 4, c);
  fill(c.codes, spec.code.number, {1, 1, 1, 1});
  fill(c.scale[0], spec.scale[0].number, {8});
  fill(c.scale[1], spec.scale[1].number, {0, 7});
  EXPECT_EQ(decoded(spec, c), (std::vector<float>{1, 1, 15, 15}));
}

TEST(Decode, CodeKinds) {
  auto row = [](llvm::StringRef text, std::vector<uint64_t> raw) {
    Spec spec = parsed(text);
    Components c;
    allocate(spec, 0, 1, raw.size() * spec.code.valuesPerIndex(), c);
    for (size_t i = 0; i < raw.size(); ++i)
      c.codes.set(0, i, raw[i]);
    return decoded(spec, c);
  };
  EXPECT_EQ(row("sign", {0, 1}), (std::vector<float>{-1, 1}));
  EXPECT_EQ(row("ternary", {0, 1, 2, 3}), (std::vector<float>{-1, 0, 1, 2}));
  EXPECT_EQ(row("pow2<3>", {0, 1, 2, 3, 4, 5, 6, 7}),
            (std::vector<float>{0, 1, 0.5, 0.25, 0, -1, -0.5, -0.25}));
  EXPECT_EQ(row("power<i3, 2>", {0, 3, 0xFC, 0xFF}), (std::vector<float>{0, 9, -16, -1}));
  EXPECT_EQ(row("table<2, [1, 2, 3, 4]>", {1, 0}), (std::vector<float>{3, 4, 1, 2}));
  // Two entries and four sign bits; the low entry comes first.
  EXPECT_EQ(row("table<2, [1, 2, 3, 4], 2 parts, full signs>", {0b0101'10}),
            (std::vector<float>{-1, 2, -3, 4}));
  // Three sign bits; the fourth makes their number even.
  EXPECT_EQ(row("table<2, [1, 2, 3, 4], 2 parts, parity signs>", {0b001'10, 0b011'10}),
            (std::vector<float>{-1, 2, 3, -4, -1, -2, 3, 4}));
}

TEST(Decode, LearnedTable) {
  Spec spec = parsed("table<2, 1 bit, f16>, scale f16[1x4]");
  Components c;
  allocate(spec, 0, 1, 4, c);
  c.table = {1, 2, 3, 4};
  c.codes.set(0, 0, 1);
  fill(c.scale[0], spec.scale[0].number, {2});
  EXPECT_EQ(decoded(spec, c), (std::vector<float>{6, 8, 2, 4}));
  c.table.pop_back();
  std::vector<float> out(4);
  llvm::Error error = decode(spec, c, out);
  EXPECT_TRUE(bool(error));
  llvm::consumeError(std::move(error));
}

TEST(Decode, SumsAndSplits) {
  Spec sum = parsed("sum<[i4, scale f16[1x2], sign]>");
  Components c;
  allocate(sum, 0, 1, 2, c);
  fill(c.terms[0].codes, sum.terms[0].code.number, {3, -2});
  fill(c.terms[0].scale[0], sum.terms[0].scale[0].number, {2});
  c.terms[1].codes.set(0, 0, 1);
  EXPECT_EQ(decoded(sum, c), (std::vector<float>{7, -5}));

  Spec split = parsed("split<outliers: f16, rest: i8>");
  Components s;
  allocate(split, 0, 2, 3, s, {1, 2});
  fill(s.terms[0].codes, split.terms[0].code.number, {100, 200});
  fill(s.terms[1].codes, split.terms[1].code.number, {1, 2, 3, 4});
  s.permutation = {1, 0, 2};
  EXPECT_EQ(decoded(split, s), (std::vector<float>{1, 100, 2, 3, 200, 4}));
  for (std::vector<int32_t> bad : {std::vector<int32_t>{0, 0, 1}, {0, 1, 3}, {-1, 0, 1}, {0, 1}}) {
    s.permutation = bad;
    llvm::Error error = verify(split, s);
    EXPECT_TRUE(bool(error));
    llvm::consumeError(std::move(error));
  }
}
