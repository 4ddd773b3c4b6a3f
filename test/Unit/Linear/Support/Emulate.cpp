//===- Emulate.cpp - Kernels of AArch64 -----------------------------------===//
//
// Compiled for that target and run by qemu-user, a process a call.
//
//===----------------------------------------------------------------------===//
#include "../../Support/Foreign.h"
#include "KernelJit.h"

using namespace quern;
using namespace quern::test;

llvm::Expected<Kernel> test::emulateKernel(const conversion::LinearDesc &desc,
                                           const target::TargetInfo &target) {
  Kernel kernel;
  if (!ForeignProgram::available())
    return kernel;
  auto object = translateKernel(desc, target, Output::Object, &kernel);
  if (!object)
    return object.takeError();
  auto layout = format::PackedLayout::get(desc.weight, desc.n, desc.k);
  if (!layout)
    return layout.takeError();
  auto act = conversion::ActivationLayout::get(desc.activation, desc.k, desc.weight);
  size_t rows = desc.maxTokens * desc.k * 4, coded = desc.maxTokens * act.bytes;
  size_t outputs = desc.maxTokens * desc.n * 4, biases = desc.n * 4, weights = layout->bytes();
  bool isFloat = desc.activation == conversion::Activation::F32;
  std::vector<ForeignFunction> functions = {
      {"linear", {isFloat ? rows : coded, weights, biases, outputs, outputs}, 3}};
  if (!isFloat)
    functions.push_back({"quantize", {rows, coded}, 2});
  auto linked = ForeignProgram::link(*object, std::move(functions));
  if (!linked)
    return linked.takeError();
  std::shared_ptr<ForeignProgram> program = std::move(*linked);
  auto pointer = [](const void *p) { return const_cast<void *>(p); };
  kernel.linear = [=](const void *x, const void *weight, const float *bias, const float *residual,
                      float *out, int64_t tokens, int64_t begin, int64_t end) {
    program->call("linear", {pointer(x), pointer(weight), pointer(bias), pointer(residual), out},
                  {tokens, begin, end});
  };
  if (!isFloat)
    kernel.quantize = [=](const float *x, void *dest, int64_t begin, int64_t end) {
      program->call("quantize", {pointer(x), dest}, {begin, end});
    };
  return kernel;
}
