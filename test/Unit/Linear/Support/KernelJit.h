//===- KernelJit.h - Compile emitted kernels and call them ------*- C++ -*-===//
//
// Lowers a linear kernel and its activation quantizer to machine code, for the host (called
// in-process) or for another target (an object file).
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_TEST_UNIT_LINEAR_KERNELJIT_H
#define QUERN_TEST_UNIT_LINEAR_KERNELJIT_H

#include "quern/Conversion/LinearDesc.h"
#include "quern/Target/TargetInfo.h"
#include "llvm/Support/Error.h"
#include <functional>
#include <memory>
#include <string>

namespace llvm {
class Function;
}

namespace quern::test {

using LinearFunction =
    std::function<void(const void *x, const void *weight, const float *bias, const float *residual,
                       float *out, int64_t tokens, int64_t begin, int64_t end)>;
using QuantizeFunction =
    std::function<void(const float *x, void *dest, int64_t begin, int64_t end)>;

/// A compiled kernel; the code lives as long as this does.
struct Kernel {
  LinearFunction linear = nullptr;
  QuantizeFunction quantize = nullptr; ///< null for Activation::F32
  bool roundsWeights = false;          ///< multiplies weights rounded to bf16
  bool wordActivations = false;        ///< multiplies bf16 as int16 (see ActivationLayout)
  bool tilesBesideWords = false;       ///< and in tiles as they are
  /// Sums of several tokens are formed in another order than those of one.
  bool hasOwnOrder = false;
  double lowerSeconds = 0, optimizeSeconds = 0, codegenSeconds = 0;
  size_t instructions = 0; ///< of LLVM IR, once optimized
  std::string scalar;      ///< see findScalarCode; empty if the kernel is all vectors
  std::shared_ptr<void> keepAlive;
};

/// How hard LLVM tries. Quick takes a third of the time: for tests of many kernels.
enum class Effort { Full, Quick };

/// Compiles `desc` for an x86 target and, where the host cannot run that, rewrites the result until
/// it can (see EmulateX86.h).
llvm::Expected<Kernel> compileKernel(const conversion::LinearDesc &desc,
                                     const target::TargetInfo &target,
                                     Effort effort = Effort::Full);

/// Compiles `desc` for AArch64 and runs it under qemu-aarch64, a process a call. Null functions and
/// no error if the emulator or the cross compiler is missing.
llvm::Expected<Kernel> emulateKernel(const conversion::LinearDesc &desc,
                                     const target::TargetInfo &target);

enum class Output {
  Mlir,
  LlvmIr,
  Assembly,
  Object,
  RunnableObject, ///< emulated where the host cannot run it
};

/// Compiles `desc` for any target to text or to the bytes of an object file. The functions are
/// called `linear` and `quantize`.
llvm::Expected<std::string> translateKernel(const conversion::LinearDesc &desc,
                                            const target::TargetInfo &target, Output output,
                                            Kernel *times = nullptr, Effort effort = Effort::Full);

/// What betrays that optimized code of a kernel falls back to single elements: its first scalar
/// load from the packed weights (argument 1), or first lane put into or taken out of a vector.
/// Empty if there is none.
std::string findScalarCode(const llvm::Function &linear);

} // namespace quern::test

#endif // QUERN_TEST_UNIT_LINEAR_KERNELJIT_H
