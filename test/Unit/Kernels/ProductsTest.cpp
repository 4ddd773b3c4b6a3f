//===- ProductsTest.cpp - Embeddings and experts' products ----------------===//
//
// The tiles that read packed weights besides linear itself (test/Unit/Linear), over partial panels
// and steps.
//
//===----------------------------------------------------------------------===//
#include "../Linear/Support/Matrices.h"
#include "KernelJit.h"
#include "quern/Reference/Ops.h"
#include "quern/Reference/Tolerance.h"
#include <gtest/gtest.h>

using namespace quern::test;
namespace reference = quern::reference;

namespace {
class Products : public testing::TestWithParam<std::string> {
protected:
  static constexpr int64_t n = 21, k = 72;

  CodedMatrix matrix(const char *spelling, uint64_t seed) {
    return cantFail(makeMatrix(cantFail(quern::format::parse(spelling)), n, k, Fill::Random, seed));
  }
  static std::string mem(int64_t bytes) { return "memref<" + std::to_string(bytes) + "xi8>"; }
};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Products);
} // namespace

// Rows of an embedding are the decoded weights, to the last bit.
TEST_P(Products, EmbeddingDecodesExactly) {
  for (const char *format : {"q4_0", "nf4"}) {
    CodedMatrix table = matrix(format, 3);
    std::string bytes = mem(table.layout.bytes());
    KernelJit jit("func.func @k(%w: " + bytes +
                      ", %i: memref<4xi32>, %o: memref<4x72xf32>, %b: index, %e: index, %t: index) "
                      "{\nquern_kernel.tile_embedding %w[%i] to %o rows %b, %e of "
                      "tensor<21x72xf32, #quern." +
                      format + "> : " + bytes + ", memref<4xi32>, memref<4x72xf32>\nreturn }",
                  GetParam());
    ASSERT_TRUE(jit.ok()) << jit.error;
    std::vector<int32_t> ids = {20, 0, 15, 16};
    std::vector<float> out(4 * k), expected;
    for (int32_t id : ids)
      expected.insert(expected.end(), table.values.begin() + id * k,
                      table.values.begin() + (id + 1) * k);
    jit.call("k", 0, 4, 4, table.packed.get(), ids.data(), out.data());
    EXPECT_EQ(out, expected) << format;
  }
}

// Each token takes the matrices of its own experts.
TEST_P(Products, ExpertLinear) {
  constexpr int64_t experts = 3, tokens = 2, used = 2;
  std::vector<float> weights;
  int64_t each = matrix("q4_0", 0).layout.bytes();
  Buffer packed(experts * each);
  for (int64_t e = 0; e < experts; ++e) {
    CodedMatrix one = matrix("q4_0", 10 + e);
    weights.insert(weights.end(), one.values.begin(), one.values.end());
    std::copy_n(one.packed.get(), each, packed.get() + e * each);
  }
  int64_t row =
      quern::conversion::ActivationLayout::get(quern::conversion::Activation::Q8, k).bytes;
  std::string stack = mem(experts * each), coded = mem(tokens * row);
  KernelJit jit(
      "func.func @quantize(%x: memref<2x72xf32>, %q: " + coded +
          ", %b: index, %e: index, %t: index) {\n"
          "quern_kernel.tile_quantize q8 %x to %q rows %b, %e : memref<2x72xf32>, " +
          coded + "\nreturn }\nfunc.func @k(%q: " + coded + ", %w: " + stack +
          ", %i: memref<2x2xi32>, %o: memref<2x2x21xf32>, %b: index, %e: index, %t: index) {\n"
          "quern_kernel.tile_expert_linear q8 %q, %w[%i] to %o panels %b, %e tokens %t of "
          "tensor<3x21x72xf32, #quern.q4_0> : " +
          coded + ", " + stack + ", memref<2x2xi32>, memref<2x2x21xf32>\nreturn }",
      GetParam());
  ASSERT_TRUE(jit.ok()) << jit.error;
  std::vector<float> x = makeActivations(tokens, k, 5), repeated;
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t j = 0; j < used; ++j)
      repeated.insert(repeated.end(), x.begin() + t * k, x.begin() + (t + 1) * k);
  std::vector<int32_t> ids = {2, 0, 0, 1};
  std::vector<float> out(tokens * used * n), expected(out.size());
  Buffer quantized(tokens * row);
  jit.call("quantize", 0, tokens, tokens, x.data(), quantized.get());
  jit.call("k", 0, 2, tokens, quantized.get(), packed.get(), ids.data(), out.data());
  reference::expertLinear({repeated, tokens * used, k}, {weights, experts * n, k}, experts, ids,
                          used, reference::ActivationFormat::Q8, expected);
  std::vector<double> magnitude(out.size());
  for (int64_t pair = 0; pair < tokens * used; ++pair)
    reference::linearMagnitude({std::span(repeated).subspan(pair * k, k), 1, k},
                               {std::span(weights).subspan(ids[pair] * n * k, n * k), n, k}, {},
                               reference::ActivationFormat::Q8,
                               std::span(magnitude).subspan(pair * n, n));
  EXPECT_EQ(reference::compare(out, expected, magnitude, reference::f32Epsilon), "");
}

INSTANTIATE_TEST_SUITE_P(Targets, Products, testing::ValuesIn(targetOfEachWidth()),
                         [](const auto &info) { return testName(info.param); });
