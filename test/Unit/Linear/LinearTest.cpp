//===- LinearTest.cpp - Generated linear kernels against the reference ----===//
//
// Every known format, both strategies, one token and many, shapes with and without tails.
//
//===----------------------------------------------------------------------===//
#include "Support/Matrices.h"
#include "quern/Format/Known.h"
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
  for (llvm::StringRef format : {"q4_0", "int3_g24", "int8_channel", "f32"})
    for (Activation activation : {Activation::F32, Activation::Q8}) {
      check(format, 21, 72, activation, {Fill::Random}, true);
      check(format, 5, 40, activation);
    }
}

TEST(Linear, ExtremeCodes) {
  for (llvm::StringRef format : {"q4_0", "q8_0", "q4_K", "q6_K", "int3_g24", "iq4_nl", "q5_1",
                                 "int8_channel_asym", "gguf_mxfp4"})
    check(format, 32, 256, Activation::Q8,
          {Fill::LowestCodes, Fill::HighestCodes, Fill::ZeroScales, Fill::TinyScales});
}
