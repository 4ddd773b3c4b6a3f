//===- TargetsTest.cpp - The same emitter for every target ----------------===//
//
// Each target's kernels compile to its own dot product; AArch64's run under emulation.
//
//===----------------------------------------------------------------------===//
#include "../Support/EmulateX86.h"
#include "Support/Matrices.h"
#include "gtest/gtest.h"

using namespace quern;
using namespace quern::conversion;
using namespace quern::test;

static LinearDesc describe(llvm::StringRef spelling, int64_t n, int64_t k, Activation activation) {
  auto parsed = format::parse(spelling);
  if (!parsed)
    llvm::report_fatal_error(parsed.takeError());
  LinearDesc desc;
  desc.weight = *parsed;
  desc.n = n;
  desc.k = k;
  desc.activation = activation;
  desc.maxTokens = 9;
  return desc;
}

TEST(LinearTargets, UseTheirDotProduct) {
  for (const target::TargetInfo &target : target::knownTargets()) {
    llvm::StringRef instruction = target.intDot == target::IntDot::ArmDot    ? "sdot"
                                  : target.intDot == target::IntDot::Maddubs ? "vpmaddubsw"
                                                                             : "vpdpbusd";
    for (llvm::StringRef format : {"q4_0", "q8_0", "iq4_nl"}) {
      auto text =
          translateKernel(describe(format, 32, 512, Activation::Q8), target, Output::Assembly);
      ASSERT_TRUE(bool(text)) << target.name << ": " << llvm::toString(text.takeError());
      EXPECT_NE(text->find(instruction.str()), std::string::npos)
          << target.name << ", " << format.str();
    }
  }
}

namespace {
class OnX86 : public testing::TestWithParam<std::string> {
protected:
  void SetUp() override {
    if (x86Targets().empty())
      GTEST_SKIP() << "not an x86-64-v3 host";
  }
  void check(llvm::StringRef format, int64_t n, int64_t k, Activation activation,
             llvm::ArrayRef<int64_t> tokens, llvm::ArrayRef<Fill> fills = {Fill::Random},
             bool addends = false) {
    EXPECT_EQ(checkFormat(describe(format, n, k, activation).weight, n, k, activation, tokens,
                          fills, addends, GetParam()),
              "")
        << format.str() << ", " << n << " x " << k << ", activations " << int(activation);
  }
};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(OnX86);
} // namespace

/// Every way to decode and multiply, for one token, blocks of tokens and what they leave over.
TEST_P(OnX86, AgreesWithTheReference) {
  for (auto [format, activation] :
       {std::pair("q4_0", Activation::Q8), std::pair("q4_K", Activation::Q8),
        std::pair("q6_K", Activation::Q8), std::pair("int3_g24", Activation::Q8),
        std::pair("iq4_nl", Activation::Q8), std::pair("iq2_xs", Activation::Q8),
         std::pair("int4_g128", Activation::Int8), std::pair("q8_0", Activation::BF16),
         std::pair("nf4", Activation::BF16),
         std::pair("split<a 32: f16, b: i8, scale f32[1x*]>", Activation::Int8),
        std::pair("f16", Activation::F32)})
    check(format, 21, 288, activation, {1, 5, 17, 64}, {Fill::Random}, true);
}

TEST_P(OnX86, ActivationsOfFourBits) {
  for (auto [format, activation] :
       {std::pair("int4_channel", Activation::Int8), std::pair("q4_0", Activation::Q8)})
    EXPECT_EQ(checkFormat(describe(format, 21, 288, activation).weight, 21, 288, activation,
                          {1, 5, 17}, {Fill::Random, Fill::HighestCodes}, false, GetParam(),
                          Effort::Full, 7),
              "")
        << format;
}

TEST_P(OnX86, ExtremeCodes) {
  for (llvm::StringRef format : {"q4_0", "q8_0", "iq4_nl", "int8_channel_asym"})
    check(format, 16, 96, Activation::Q8, {1, 17}, {Fill::LowestCodes, Fill::HighestCodes});
  check("int8_channel_asym", 16, 512, Activation::Int8, {1, 17},
        {Fill::LowestCodes, Fill::HighestCodes});
}

// x86-64-v3 is what LinearTest.cpp runs; znver4 differs from icelake-server in tuning only.
INSTANTIATE_TEST_SUITE_P(Targets, OnX86, testing::Values("icelake-server", "sapphirerapids"),
                         [](const auto &info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

namespace {
/// Kernels that use tile registers: each must say so by its products, where they are emulated.
class OnTiles : public OnX86 {
protected:
  void check(llvm::StringRef format, int64_t n, int64_t k, Activation activation) {
    TileUnit::takeProducts();
    // A full superblock, a tile and three single tokens; a tile and a single one; none.
    OnX86::check(format, n, k, activation, {83, 17, 16, 15, 1});
    bool emulated = needsEmulation(llvm::cantFail(target::lookup(GetParam())));
    EXPECT_EQ(TileUnit::takeProducts() > 0, emulated) << format.str();
  }
};
} // namespace

TEST_P(OnTiles, Bytes) {
  // Scales and offsets of 32 columns; of a whole row and of 64 columns; two blocks of steps, a
  // tail.
  check("q5_1", 21, 592, Activation::Q8);
  check("int8_channel_asym", 21, 592, Activation::Int8);
  check("int4_g64", 16, 192, Activation::Int8);
  // Codes signed by taking their bias off; scales of 16 columns, without and with offsets.
  check("q4_0", 21, 592, Activation::Q8);
  check("q6_K", 16, 1024, Activation::Q8);
  check("q2_K", 21, 256, Activation::Q8);
}

TEST_P(OnTiles, BFloat16) {
  // Codes, floats in pairs of columns; whole blocks of steps, tails of even and odd length.
  check("q4_K", 16, 1024, Activation::BF16);
  check("q8_0", 21, 1056, Activation::BF16);
  check("q6_K", 21, 512, Activation::BF16);
  check("int8_channel", 16, 592, Activation::BF16);
  check("nf4", 21, 556, Activation::BF16);
  check("bf16", 21, 75, Activation::BF16);
  check("f32", 16, 545, Activation::BF16);
}
INSTANTIATE_TEST_SUITE_P(Targets, OnTiles, testing::Values("sapphirerapids"),
                         [](const auto &info) { return info.param; });

TEST(LinearTargets, AArch64AgreesWithTheReference) {
  auto target = target::lookup("aarch64");
  ASSERT_TRUE(bool(target));
  for (auto [format, activation] :
       {std::pair("q4_0", Activation::Q8), std::pair("q8_0", Activation::Q8),
        std::pair("int3_g24", Activation::Int8), std::pair("iq4_nl", Activation::Q8),
        std::pair("q4_K", Activation::Q8), std::pair("nf4", Activation::BF16),
        std::pair("split<a 32: f16, b: i4, scale f32[1x*]>", Activation::Int8),
        std::pair("f16", Activation::F32)}) {
    LinearDesc desc = describe(format, 21, 288, activation);
    if (desc.weight.kind == format::Spec::Kind::Split)
      desc.largestCode = 7;
    auto kernel = emulateKernel(desc, *target);
    ASSERT_TRUE(bool(kernel)) << llvm::toString(kernel.takeError());
    if (!kernel->linear)
      GTEST_SKIP() << "qemu-aarch64 or clang-22 is missing";
    auto matrix = makeMatrix(desc.weight, desc.n, desc.k, Fill::Random, 5);
    ASSERT_TRUE(bool(matrix)) << llvm::toString(matrix.takeError());
    EXPECT_EQ(checkKernel(*kernel, desc, *matrix, {1, 9}, 3), "") << format;
  }
}
