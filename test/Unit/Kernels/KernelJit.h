//===- KernelJit.h - Runs kernel functions in the test's process -*- C++ -*-===//
//
// Lowers kernel-level text with the passes that compilation uses and calls the result.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_TEST_KERNELS_KERNELJIT_H
#define QUERN_TEST_KERNELS_KERNELJIT_H

#include "../Support/Foreign.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace quern::test {

/// Functions of `text` that are public can be called: buffers as pointers, then
/// (begin, end, tokens).
class KernelJit {
public:
  KernelJit(const std::string &text, const std::string &target);
  bool ok() const { return jit || foreign; }
  std::string error;

  template <typename... Buffers>
  void call(const char *name, int64_t begin, int64_t end, int64_t tokens, Buffers *...buffers) {
    if (foreign)
      return foreign->call(name, {static_cast<void *>(buffers)...}, {begin, end, tokens});
    auto *function = reinterpret_cast<void (*)(Buffers *..., int64_t, int64_t, int64_t)>(
        address(name));
    function(buffers..., begin, end, tokens);
  }

private:
  void *address(const char *name);
  std::unique_ptr<llvm::orc::LLJIT> jit;
  std::unique_ptr<ForeignProgram> foreign; ///< in its place for AArch64
};

/// One target of each architecture and vector width, as these kernels depend on nothing else. Run
/// natively or emulated (Support/EmulateX86.h, Foreign.h).
std::vector<std::string> targetOfEachWidth();

/// A target's name as a test may be called.
std::string testName(std::string target);

/// The same numbers everywhere (the standard's distributions are not).
class Random {
public:
  explicit Random(uint32_t seed) : engine(seed) {}
  float uniform(float low, float high) {
    return low + (high - low) * float(engine() >> 8) * 0x1p-24f;
  }
  std::vector<float> vector(size_t n, float low = -1, float high = 1) {
    std::vector<float> v(n);
    for (float &x : v)
      x = uniform(low, high);
    return v;
  }

private:
  std::mt19937 engine;
};

/// max |a - b| / max(|b|, floor); infinite when only one is NaN or they are different infinities.
double worstError(const std::vector<float> &actual, const std::vector<float> &expected,
                  double floor);

} // namespace quern::test

#endif // QUERN_TEST_KERNELS_KERNELJIT_H
