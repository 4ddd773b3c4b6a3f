//===- TargetsTest.cpp - The same emitter for every target ----------------===//
//
// Each target's kernels compile to its own dot product; AArch64's run under emulation.
//
//===----------------------------------------------------------------------===//
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

TEST(LinearTargets, AArch64AgreesWithTheReference) {
  auto target = target::lookup("aarch64");
  ASSERT_TRUE(bool(target));
  for (auto [format, activation] :
       {std::pair("q4_0", Activation::Q8), std::pair("q8_0", Activation::Q8),
        std::pair("int3_g24", Activation::Int8), std::pair("iq4_nl", Activation::Q8),
        std::pair("q4_K", Activation::Q8),
        std::pair("nf4", Activation::BF16), std::pair("f16", Activation::F32)}) {
    LinearDesc desc = describe(format, 21, 288, activation);
    auto kernel = emulateKernel(desc, *target);
    ASSERT_TRUE(bool(kernel)) << llvm::toString(kernel.takeError());
    if (!kernel->linear)
      GTEST_SKIP() << "qemu-aarch64 or clang-22 is missing";
    auto matrix = makeMatrix(desc.weight, desc.n, desc.k, Fill::Random, 5);
    ASSERT_TRUE(bool(matrix)) << llvm::toString(matrix.takeError());
    EXPECT_EQ(checkKernel(*kernel, desc, *matrix, {1, 9}, 3), "") << format;
  }
}
