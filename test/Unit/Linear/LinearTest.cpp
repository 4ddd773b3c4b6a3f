//===- LinearTest.cpp - Generated linear kernels against the reference ----===//
//
// Every known format and 200 random ones, both strategies, one token and many, shapes with tails,
// random and extreme data. Each kernel must be vector code.
//
//===----------------------------------------------------------------------===//
#include "Support/Matrices.h"
#include "quern/Format/Known.h"
#include "quern/Format/Random.h"
#include "gtest/gtest.h"

using namespace quern;
using namespace quern::conversion;
using namespace quern::test;

static const int64_t tokenCounts[] = {1, 2, 5, 17, 64};

static format::Spec spec(llvm::StringRef spelling) {
  auto parsed = format::parse(spelling);
  if (!parsed)
    llvm::report_fatal_error(parsed.takeError());
  return *parsed;
}

static llvm::StringRef name(Activation activation) {
  static const char *const names[] = {"f32", "bf16", "q8", "int8"};
  return names[int(activation)];
}

static void check(const format::Spec &format, int64_t n, int64_t k, Activation activation,
                  Effort effort, bool addends = false) {
  EXPECT_EQ(checkFormat(format, n, k, activation, tokenCounts, allFills, addends, "native", effort),
            "")
      << format::print(format) << ", " << n << " x " << k << ", " << name(activation).str()
      << " activations";
}

TEST(Linear, FourBitsInGroups) { check(spec("q4_0"), 48, 256, Activation::Q8, Effort::Full); }
TEST(Linear, EightBitsInGroups) { check(spec("q8_0"), 48, 256, Activation::Q8, Effort::Full); }
TEST(Linear, TwoLevelsAndOffsets) { check(spec("q4_K"), 48, 512, Activation::Q8, Effort::Full); }
TEST(Linear, SixBits) { check(spec("q6_K"), 48, 512, Activation::Q8, Effort::Full); }
TEST(Linear, ThreeBitsInGroupsOf24) {
  check(spec("int3_g24"), 48, 480, Activation::Q8, Effort::Full);
}

TEST(Linear, TailsOfRowsAndColumns) {
  for (llvm::StringRef format : {"q4_0", "int3_g24", "f32"})
    for (Activation activation : {Activation::F32, Activation::Q8})
      check(spec(format), 21, 72, activation, Effort::Full, true);
  check(spec("q4_0"), 5, 40, Activation::Q8, Effort::Full);
  check(spec("int8_channel"), 5, 8, Activation::Q8, Effort::Full);
}

/// Sets of every code storage, with groups that end early, and a sum as a set.
TEST(Linear, SplitsOfColumns) {
  for (llvm::StringRef format :
       {"split<a: ui3, scale f16[1x24], minus f16[1x24], b: sum<[i4, scale f16[1x32], sign, scale "
        "f16[1x64]]>, c: i8, scale f32[1x*]>",
        "split<a: bf16, b: table<2, 5 bit, f16>, scale f16[1x16], c: table<nf4>, scale f16[1x64]>"})
    for (Activation activation : {Activation::Q8, Activation::F32})
      check(spec(format), 21, 360, activation, Effort::Quick, true);
}

/// The columns of the last set are rounded by themselves; those of the others not at all.
TEST(Linear, SplitsOfColumnsThatRoundActivationsApart) {
  for (llvm::StringRef format :
       {"split<outliers 32: f16, rest: i8, scale f32[1x*]>",
        "split<a 64: i8, scale f32[1x*], b 32: table<nf4>, scale f16[1x64], c: i4, scale f16[1x32]>"})
    check(spec(format), 21, 360, Activation::Int8, Effort::Quick, true);
}

/// Codes of four bits, a token and a group.
TEST(Linear, ActivationsOfFourBits) {
  for (Activation activation : {Activation::Int8, Activation::Q8})
    for (llvm::StringRef format : {"int4_channel", "q4_0", "q4_K", "split<a 32: f16, b: i4, scale f32[1x*]>"})
      EXPECT_EQ(checkFormat(spec(format), 21, format == "q4_K" ? 512 : 360, activation, tokenCounts, allFills,
                            false, "native", Effort::Quick, 7),
                "")
          << format.str() << ", " << name(activation).str();
}

namespace {
struct Shape {
  int64_t n, k;
};
/// Rows that do not fill a panel, columns that fill neither a group of activations nor a chunk.
constexpr Shape shapes[] = {{19, 552}, {35, 296}, {21, 264}};

class KnownFormats : public testing::TestWithParam<size_t> {};
class RandomFormats : public testing::TestWithParam<uint64_t> {};
} // namespace

/// Integer products where the format has them, decoding to floats, and in turn one of the rounded
/// forms of activations that share their code with those.
TEST_P(KnownFormats, MatchTheReference) {
  const format::KnownFormat &known = format::knownFormats()[GetParam()];
  format::Spec format = spec(known.name);
  if (format.code.number.bits == 64)
    GTEST_SKIP() << known.name.str() << " has no kernel";
  size_t i = GetParam();
  auto checkShape = [&](Activation activation, const Shape &shape, bool addends) {
    check(format, shape.n, shape.k, activation, Effort::Quick, addends);
  };
  checkShape(Activation::Q8, shapes[i % 3], false);
  checkShape(Activation::F32, shapes[(i + 1) % 3], true);
  if (i % 4 == 0)
    checkShape(i % 8 ? Activation::Int8 : Activation::BF16, shapes[(i + 2) % 3], false);
}
INSTANTIATE_TEST_SUITE_P(Linear, KnownFormats,
                         testing::Range<size_t>(0, format::knownFormats().size()));

TEST_P(RandomFormats, CompileToVectorCodeAndMatchTheReference) {
  uint64_t seed = GetParam();
  check(format::randomSpec(seed), shapes[seed % 3].n, shapes[seed % 3].k,
        seed % 4 == 3 ? Activation::F32 : Activation::Q8, Effort::Quick, seed % 2);
}
INSTANTIATE_TEST_SUITE_P(Linear, RandomFormats, testing::Range<uint64_t>(0, 200));
