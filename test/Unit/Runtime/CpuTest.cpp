// Dispatch picks the first target the CPU runs and explains itself when none fits.
#include "quern/Runtime/Cpu.h"
#include <gtest/gtest.h>

using namespace quern::runtime;

static void forward(const quern_step *, int32_t, int32_t) {}

TEST(Cpu, ChoosesFirstTargetThatFits) {
  const quern_target targets[] = {{"impossible", "avx2,no-such-feature", forward},
                                  {"plain", "", forward},
                                  {"other", "", forward}};
  quern_program program = {};
  program.targets = targets;
  program.target_count = 3;
  const quern_target *chosen = nullptr;
  ASSERT_TRUE(chooseTarget(program, "", chosen).ok());
  EXPECT_STREQ(chosen->name, "plain");
  ASSERT_TRUE(chooseTarget(program, "other", chosen).ok());
  EXPECT_STREQ(chosen->name, "other");

  Status s = chooseTarget(program, "impossible", chosen);
  EXPECT_EQ(s.code, QUERN_ERROR_CPU);
  EXPECT_NE(s.message.find("impossible needs"), std::string::npos) << s.message;
  EXPECT_NE(s.message.find("no-such-feature"), std::string::npos) << s.message;
  s = chooseTarget(program, "z80", chosen);
  EXPECT_EQ(s.code, QUERN_ERROR_ARGUMENT);
  EXPECT_NE(s.message.find("impossible, plain, other"), std::string::npos) << s.message;
}

TEST(Cpu, FeaturesAgreeWithTheKernelsView) {
  // The compiler's builtin asks the same hardware in its own way.
#if defined(__x86_64__)
  __builtin_cpu_init();
  EXPECT_EQ(cpuHas("avx2"), bool(__builtin_cpu_supports("avx2")));
  EXPECT_EQ(cpuHas("fma"), bool(__builtin_cpu_supports("fma")));
  EXPECT_EQ(cpuHas("bmi2"), bool(__builtin_cpu_supports("bmi2")));
  EXPECT_EQ(cpuHas("lzcnt"), bool(__builtin_cpu_supports("lzcnt")));
  EXPECT_EQ(cpuHas("avx512vnni"), bool(__builtin_cpu_supports("avx512vnni")));
  EXPECT_EQ(cpuHas("avx512bf16"), bool(__builtin_cpu_supports("avx512bf16")));
  EXPECT_TRUE(cpuHas("sse3"));
#endif
  EXPECT_FALSE(cpuHas("no-such-feature"));
  EXPECT_EQ(missingFeatures("+no-a,no-b").size(), 2u);
}

TEST(Cpu, CountsCores) {
  EXPECT_GE(physicalCores().size(), 1u);
  EXPECT_GE(defaultThreads(), 1);
  EXPECT_LE(size_t(defaultThreads()), physicalCores().size());
}
