//===- RandomTest.cpp - Random formats through every codec ----------------===//
//
// 500 formats: spelling, canonical layout, decoding (against a slow evaluation
// element by element) and encoding.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Random.h"
#include "quern/Format/Encode.h"
#include "quern/Format/FileType.h"
#include "quern/Format/Number.h"
#include <bit>
#include <cmath>
#include <gtest/gtest.h>
#include <set>

using namespace quern::format;

/// The definition once more, element by element and without any shared bookkeeping.
static float product(const std::vector<Level> &levels, const std::vector<Stream> &streams,
                     int64_t row, int64_t col, float empty) {
  float value = empty;
  for (size_t l = 0; l < levels.size(); ++l) {
    int64_t r = levels[l].tile.rows == 0 ? 0 : row / levels[l].tile.rows;
    int64_t c = levels[l].tile.cols == 0 ? 0 : col / levels[l].tile.cols;
    float stored = decodeNumber(levels[l].number, streams[l].get(r, c));
    float factor = (stored + levels[l].addend) * levels[l].multiplier;
    value = l == 0 ? factor : value * factor;
  }
  return value;
}

static float element(const Spec &spec, const Components &c, int64_t row, int64_t col) {
  float values[64];
  int64_t width = spec.code.valuesPerIndex();
  decodeIndex(spec.code, c.table, c.codes.get(row, col / width), values);
  float value = values[col % width];
  if (!spec.zero.empty())
    value -= product(spec.zero, c.zero, row, col, 0);
  if (!spec.scale.empty())
    value *= product(spec.scale, c.scale, row, col, 1);
  float offset = product(spec.offset, c.offset, row, col, 0);
  if (!spec.offset.empty())
    value = spec.offsetSign < 0 ? value - offset : value + offset;
  return value;
}

TEST(Random, FormatsCoverTheAlgebra) {
  std::set<std::string> seen;
  std::set<unsigned> widths;
  std::set<int64_t> groups;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Spec spec = randomSpec(seed);
    EXPECT_EQ(llvm::cantFail(parse(print(spec))), spec);
    EXPECT_EQ(randomSpec(seed), spec);
    widths.insert(spec.code.bitsPerIndex());
    groups.insert(spec.scale.back().tile.cols);
    seen.insert(spec.scale.size() == 2 ? "two levels" : "one level");
    seen.insert(spec.offset.empty() ? "no offset" : spec.offsetSign < 0 ? "minus" : "plus");
    seen.insert(spec.zero.empty() ? "no zero" : "zero");
    seen.insert("code " + std::to_string(int(spec.code.kind)));
    if (spec.code.kind == Code::Kind::Number && spec.code.number.isFloat())
      seen.insert("minifloat");
  }
  EXPECT_EQ(seen.size(), 2u + 3 + 2 + 5 + 1);
  for (unsigned bits = 1; bits <= 8; ++bits)
    EXPECT_TRUE(widths.count(bits)) << bits;
  EXPECT_GE(*groups.begin(), 8);
  EXPECT_LE(*groups.rbegin(), 256);
  EXPECT_GT(groups.size(), 20u);
}

TEST(Random, DecodeIsTheDefinition) {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    Spec spec = randomSpec(seed);
    Components c;
    int64_t rows = 3, cols = 1 + seed * 7 % 600;
    randomComponents(spec, rows, cols, seed, c);
    std::vector<float> out(rows * cols);
    llvm::cantFail(decode(spec, c, out));
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t k = 0; k < cols; ++k) {
        float expected = element(spec, c, r, k), found = out[r * cols + k];
        ASSERT_TRUE(std::isfinite(found)) << print(spec);
        ASSERT_EQ(std::bit_cast<uint32_t>(found), std::bit_cast<uint32_t>(expected))
            << print(spec) << " at " << r << ", " << k;
      }
  }
}

TEST(Random, CanonicalLayoutRoundTrips) {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    Spec spec = randomSpec(seed);
    Components c, back;
    int64_t rows = 3, cols = 1 + seed * 13 % 700;
    randomComponents(spec, rows, cols, seed, c);
    auto arrays = llvm::cantFail(packCanonical(spec, c));
    uint64_t total = 0;
    for (const auto &array : arrays)
      total += array.size();
    EXPECT_EQ(total, llvm::cantFail(storedBytes(spec, {rows, cols}))) << print(spec);
    std::vector<llvm::ArrayRef<uint8_t>> refs(arrays.begin(), arrays.end());
    llvm::cantFail(unpackCanonical(spec, refs, 0, rows, cols, back));
    EXPECT_EQ(c, back) << print(spec);
  }
}

TEST(Random, EncodeIsCloseAndStable) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Spec spec = randomSpec(seed);
    bool fits = spec.code.bitsPerIndex() >= 4 * spec.code.valuesPerIndex() &&
                spec.code.kind == Code::Kind::Number;
    bool isUnsigned = spec.code.number.kind == Number::Kind::Unsigned;
    std::vector<float> values(4 * 512), out(4 * 512);
    uint64_t state = seed + 1;
    for (float &v : values) {
      state = state * 6364136223846793005 + 1442695040888963407;
      v = float(int64_t(state) >> 40) * 0x1p-23f;
    }
    Components c, again;
    llvm::cantFail(encode(spec, values, 4, 512, c, "w"));
    llvm::cantFail(encode(spec, values, 4, 512, again, "w"));
    EXPECT_EQ(c, again);
    llvm::cantFail(decode(spec, c, out));
    double error = 0, norm = 0;
    for (size_t i = 0; i < out.size(); ++i) {
      ASSERT_TRUE(std::isfinite(out[i])) << print(spec);
      error += std::pow(double(out[i]) - values[i], 2);
      norm += std::pow(double(values[i]), 2);
    }
    // An unsigned code alone cannot reach both signs; an offset that cannot be negative may not
    // either.
    bool bothSigns = !isUnsigned || !spec.zero.empty() ||
                     (!spec.offset.empty() && spec.offset.back().number.isFloat() &&
                      !spec.offset.back().number.isFloat(FloatKind::F8E8M0FNU));
    if (fits && bothSigns)
      EXPECT_LT(std::sqrt(error / norm), 0.17) << print(spec) << " seed " << seed;
  }
}
