//===- LinearTest.cpp - Generated linear kernels against the reference ----===//
//
// Every known format, both strategies, one token and many, shapes with and without tails.
//
//===----------------------------------------------------------------------===//
#include "Support/Matrices.h"
#include "quern/Format/Known.h"
#include "quern/Format/Random.h"
#include "gtest/gtest.h"
#include <cstdlib>

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

static void check(llvm::StringRef spelling, int64_t n, int64_t k, Activation activation,
                  llvm::ArrayRef<Fill> fills = {Fill::Random}, bool addends = false) {
  EXPECT_EQ(checkFormat(spec(spelling), n, k, activation, tokenCounts, fills, addends), "")
      << spelling.str() << ", " << n << " x " << k << ", " << name(activation).str()
      << " activations";
}

TEST(Linear, FourBitsInGroups) { check("q4_0", 48, 256, Activation::Q8); }
TEST(Linear, EightBitsInGroups) { check("q8_0", 48, 256, Activation::Q8); }
TEST(Linear, TwoLevelsAndOffsets) { check("q4_K", 48, 512, Activation::Q8); }
TEST(Linear, SixBits) { check("q6_K", 48, 512, Activation::Q8); }
TEST(Linear, ThreeBitsInGroupsOf24) { check("int3_g24", 48, 480, Activation::Q8); }

TEST(Linear, TailsOfRowsAndColumns) {
  for (llvm::StringRef format : {"q4_0", "int3_g24", "f32"})
    for (Activation activation : {Activation::F32, Activation::Q8})
      check(format, 21, 72, activation, {Fill::Random}, true);
  check("q4_0", 5, 40, Activation::Q8);
  check("int8_channel", 5, 8, Activation::Q8);
}

TEST(Linear, ExtremeCodes) {
  for (llvm::StringRef format : {"q4_0", "q8_0", "q4_K", "q6_K", "int3_g24", "iq4_nl", "q5_1",
                                 "int8_channel_asym", "gguf_mxfp4"})
    check(format, 32, 256, Activation::Q8,
          {Fill::LowestCodes, Fill::HighestCodes, Fill::ZeroScales, Fill::TinyScales});
}

/// Every known format but splits. Integer products where the format has them; all 2 x 67 kernels
/// take minutes, so the quick suite leaves to QUERN_FULL_TESTS what shares its code with others.
static void checkKnownFormats(Activation activation, size_t every, size_t from) {
  size_t index = 0;
  for (const format::KnownFormat &known : format::knownFormats()) {
    format::Spec format = spec(known.name);
    if (format.kind == format::Spec::Kind::Split || format.code.number.bits == 64)
      continue;
    if (!std::getenv("QUERN_FULL_TESTS") && index++ % every != from)
      continue;
    EXPECT_EQ(checkFormat(format, 19, 288, activation, {1, 5}), "")
        << known.name.str() << ", " << name(activation).str() << " activations";
  }
}
TEST(Linear, KnownFormatsOnQ8) { checkKnownFormats(Activation::Q8, 1, 0); }
TEST(Linear, KnownFormatsOnF32) { checkKnownFormats(Activation::F32, 4, 0); }
TEST(Linear, KnownFormatsOnBF16) { checkKnownFormats(Activation::BF16, 8, 2); }
TEST(Linear, KnownFormatsOnInt8) { checkKnownFormats(Activation::Int8, 8, 3); }

/// Random formats of the algebra compile to kernels that match: 200 of them with QUERN_FULL_TESTS.
TEST(Linear, RandomFormats) {
  uint64_t count = std::getenv("QUERN_FULL_TESTS") ? 200 : 4;
  for (uint64_t seed = 0; seed < count; ++seed) {
    format::Spec format = format::randomSpec(seed);
    Activation activation = seed % 4 == 3 ? Activation::F32 : Activation::Q8;
    EXPECT_EQ(checkFormat(format, 19, 296, activation, {1, 5}), "")
        << "seed " << seed << ": " << format::print(format);
  }
}
