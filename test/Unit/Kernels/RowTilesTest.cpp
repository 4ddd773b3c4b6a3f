//===- RowTilesTest.cpp - Norms, rope, activations against lib/Reference --===//
//
// Each tile over lengths with tails, part of the rows, and extreme values.
//
//===----------------------------------------------------------------------===//
#include "KernelJit.h"
#include "quern/Reference/Hadamard.h"
#include "quern/Reference/Ops.h"
#include <bit>
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>

using namespace quern::test;
namespace reference = quern::reference;

namespace {
class RowTiles : public testing::TestWithParam<std::string> {
protected:
  /// A public kernel @k over the buffers, with this body.
  KernelJit compile(const std::string &buffers, const std::string &body) {
    KernelJit jit("func.func @k(" + buffers + ", %b: index, %e: index, %t: index) {\n" + body +
                      "\nreturn }",
                  GetParam());
    EXPECT_TRUE(jit.ok()) << jit.error;
    return jit;
  }
  static std::string mem(std::initializer_list<int64_t> shape, const char *element = "f32") {
    std::string text = "memref<";
    for (int64_t d : shape)
      text += std::to_string(d) + "x";
    return text + element + ">";
  }
};
} // namespace

TEST_P(RowTiles, RmsNorm) {
  for (int64_t length : {1, 7, 16, 64, 70, 576}) {
    std::string x = mem({5, length}), g = mem({length});
    KernelJit jit = compile("%x: " + x + ", %g: " + g + ", %o: " + x,
                            "quern_kernel.tile_rms_norm %x, %g to %o rows %b, %e {epsilon = "
                            "1.0e-5 : f32, unit_offset} : " +
                                x + ", " + g + ", " + x);
    ASSERT_TRUE(jit.ok());
    Random random(1);
    std::vector<float> in = random.vector(5 * length, -3, 3), gain = random.vector(length);
    std::fill(in.begin() + length, in.begin() + 2 * length,
              7e17f); // their squares sum to nearly the largest float
    std::fill(in.begin() + 2 * length, in.begin() + 3 * length, 1e-30f);
    std::vector<float> out(5 * length, 7), expected(5 * length, 7);
    reference::rmsNorm(std::span(in).first(4 * length), gain, 1e-5f, true,
                       std::span(expected).first(4 * length));
    jit.call("k", 0, 4, 5, in.data(), gain.data(), out.data());
    EXPECT_LT(worstError(out, expected, 1e-6), 1e-5) << length; // the fifth row stays
  }
}

// The sums are those of the reference in the same order: the same bits.
TEST_P(RowTiles, Hadamard) {
  for (auto [length, block] : {std::pair<int64_t, int64_t>{12, 4},
                               {24, 8},
                               {576, 64},
                               {1536, 512},
                               {2048, 2048},
                               {24, 12},
                               {56, 56},
                               {576, 576},
                               {120, 60},
                               {1536, 1536}}) {
    std::string x = mem({3, length});
    KernelJit jit =
        compile("%x: " + x + ", %o: " + x,
                "quern_kernel.tile_hadamard %x to %o rows %b, %e block = " + std::to_string(block) +
                    " : " + x + ", " + x);
    ASSERT_TRUE(jit.ok());
    std::vector<float> in = Random(5).vector(3 * length, -3, 3);
    in[size_t(block) - 1] = 300; // an outlier spreads over its block
    std::vector<float> out(3 * length, 7), expected(3 * length, 7);
    reference::hadamard(std::span(in).first(2 * length), block,
                        std::span(expected).first(2 * length));
    jit.call("k", 0, 2, 3, in.data(), out.data());
    EXPECT_EQ(out, expected) << block; // the third row stays
    EXPECT_LT(std::fabs(out[0]), 300 / std::sqrt(float(block)) + 20);
    // Its own inverse, and by definition.
    std::vector<float> back(3 * length, 7);
    jit.call("k", 0, 2, 3, out.data(), back.data());
    for (size_t k = 0; k < size_t(2 * length); ++k)
      ASSERT_NEAR(back[k], in[k], 1e-3) << block;
    double sum = 0;
    int64_t factor = reference::hadamardFactor(block), run = block / factor;
    for (int64_t j = 0; j < block; ++j) {
      // Feature 3: of run 3 / run, of it 3 % run. Run 0 adds all but itself, of the second half its
      // own negative.
      int64_t to = 3 / run, from = j / run, half = factor / 2;
      int sign = std::popcount(uint64_t(j & (3 % run))) % 2 ? -1 : 1;
      if (factor > 1 && from % half == to)
        sign = from < half ? sign : -sign;
      else if (factor > 1)
        sign *= reference::conference(factor, to, from % half);
      sum += double(in[size_t(j)]) * sign;
    }
    EXPECT_NEAR(out[3], sum / std::sqrt(double(block)), 1e-3);
  }
}

TEST_P(RowTiles, LayerNorm) {
  for (int64_t length : {5, 64, 70}) {
    std::string x = mem({3, length}), g = mem({length});
    KernelJit jit = compile("%x: " + x + ", %g: " + g + ", %c: " + g + ", %o: " + x,
                            "quern_kernel.tile_layer_norm %x, %g bias %c to %o rows %b, %e "
                            "{epsilon = 1.0e-5 : f32} : " +
                                x + ", " + g + " bias " + g + ", " + x);
    ASSERT_TRUE(jit.ok());
    Random random(2);
    std::vector<float> in = random.vector(3 * length, -3, 5), gain = random.vector(length);
    std::vector<float> bias = random.vector(length), out(3 * length), expected(3 * length);
    reference::layerNorm(in, gain, bias, 1e-5f, expected);
    jit.call("k", 0, 3, 3, in.data(), gain.data(), bias.data(), out.data());
    EXPECT_LT(worstError(out, expected, 0.1), 1e-5) << length;
  }
}

TEST_P(RowTiles, RopeAtFarPositions) {
  for (bool interleaved : {false, true})
    for (int64_t dims : {4, 12, 32}) {
      constexpr int64_t heads = 2, headDim = 36, tokens = 4;
      std::vector<float> frequencies;
      std::string list;
      for (int64_t i = 0; i < dims / 2; ++i) {
        frequencies.push_back(std::pow(10000.0f, -2.0f * i / dims));
        char text[32];
        snprintf(text, sizeof text, "%s%.9e", i ? ", " : "", double(frequencies.back()));
        list += text;
      }
      std::string x = mem({tokens, heads * headDim}), t = mem({tokens, dims});
      std::string p = mem({tokens}, "i32");
      KernelJit jit =
          compile("%p: " + p + ", %table: " + t + ", %x: " + x,
                  "quern_kernel.tile_rope_table %p to %table rows %b, %e {factor = 1.25 : f32, "
                  "frequencies = array<f32: " +
                      list + ">} : " + p + ", " + t +
                      "\n%two = arith.constant 2 : index\n%last = arith.muli %e, %two : index\n"
                      "quern_kernel.tile_rope %x by %table rows %b, %last {heads = 2" +
                      (interleaved ? ", interleaved" : "") + "} : " + x + ", " + t);
      ASSERT_TRUE(jit.ok());
      std::vector<int32_t> positions = {0, 1, 8191, 1000003};
      Random random(3);
      std::vector<float> in = random.vector(tokens * heads * headDim), table(tokens * dims);
      std::vector<float> expected(in.size());
      reference::RopeShape shape;
      shape.heads = heads;
      shape.headDim = headDim;
      shape.pairing =
          interleaved ? reference::RopePairing::Interleaved : reference::RopePairing::Neox;
      shape.frequencies = frequencies;
      shape.attentionFactor = 1.25;
      reference::rope(in, positions, shape, expected);
      jit.call("k", 0, tokens, tokens, positions.data(), table.data(), in.data());
      EXPECT_LT(worstError(in, expected, 0.1), 4e-6) << dims << interleaved;
    }
}

TEST_P(RowTiles, GatedActivations) {
  const std::pair<const char *, reference::GateFunction> functions[] = {
      {"silu", reference::GateFunction::Silu},
      {"gelu_tanh", reference::GateFunction::GeluTanh},
      {"gelu", reference::GateFunction::Gelu}};
  for (auto [name, function] : functions) {
    constexpr int64_t length = 45, rows = 2;
    std::string x = mem({rows, length});
    KernelJit jit =
        compile("%g: " + x + ", %u: " + x + ", %o: " + x,
                "quern_kernel.tile_gated_activation " + std::string(name) +
                    " %g, %u to %o columns %b, %e rows %t : " + x + ", " + x + ", " + x);
    ASSERT_TRUE(jit.ok());
    Random random(4);
    std::vector<float> gate = random.vector(rows * length, -10, 10);
    std::vector<float> up = random.vector(rows * length, -2, 2), out(rows * length, 9);
    const float extremes[] = {0, -0.0f, 100, -100, 1e30f, -1e30f, 88.5f, -88.5f, 1e-30f};
    std::copy(std::begin(extremes), std::end(extremes), gate.begin() + 3);
    std::vector<float> expected(rows * length, 9), all(rows * length);
    reference::gatedActivation(function, gate, up, all);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 3; c < 43; ++c)
        expected[r * length + c] = all[r * length + c];
    jit.call("k", 3, 43, rows, gate.data(), up.data(), out.data());
    // Far on the negative side GELU's result is a tiny difference; 1e-6 of the input there.
    EXPECT_LT(worstError(out, expected, 0.5), 2e-6) << name;
  }
}

TEST_P(RowTiles, SoftcapAddScaleTakeRows) {
  constexpr int64_t length = 21, rows = 3;
  std::string x = mem({rows, length}), index = mem({rows}, "i32");
  KernelJit jit =
      compile("%x: " + x + ", %y: " + x + ", %i: " + index + ", %o: " + x,
              "%zero = arith.constant 0 : index\n%cols = arith.constant 21 : index\n"
              "quern_kernel.tile_softcap %x columns %zero, %cols rows %t {cap = 5.0 : f32} : " +
                  x + "\nquern_kernel.tile_add %x, %y to %y rows %b, %e : " + x + ", " + x + ", " +
                  x + "\nquern_kernel.tile_scale %y to %y rows %b, %e {factor = 3.0 : f32} : " + x +
                  ", " + x + "\nquern_kernel.tile_take_rows %y[%i] to %o rows %b, %e : " + x +
                  ", " + index + ", " + x);
  ASSERT_TRUE(jit.ok());
  Random random(5);
  std::vector<float> a = random.vector(rows * length, -30, 30), c = random.vector(rows * length);
  a[0] = 1e9f, a[1] = -1e9f, a[2] = 1e-3f;
  std::vector<int32_t> indices = {2, 0, 2};
  std::vector<float> capped(a.size()), sum(a.size()), scaled(a.size()), expected(a.size());
  reference::softcap(a, 5, capped);
  reference::add(capped, c, sum);
  reference::scale(sum, 3, scaled);
  reference::takeRows({scaled, rows, length}, indices, expected);
  std::vector<float> out(a.size());
  jit.call("k", 0, rows, rows, a.data(), c.data(), indices.data(), out.data());
  EXPECT_LT(worstError(out, expected, 1), 2e-6);
}

TEST_P(RowTiles, RouteAndCombine) {
  constexpr int64_t tokens = 3, experts = 11, used = 4, width = 19;
  std::string logits = mem({tokens, experts}), ids = mem({tokens, used}, "i32");
  std::string weights = mem({tokens, used}), x = mem({tokens, used, width});
  std::string out = mem({tokens, width});
  for (bool normalize : {false, true}) {
    KernelJit jit = compile(
        "%l: " + logits + ", %i: " + ids + ", %w: " + weights + ", %x: " + x + ", %o: " + out,
        "quern_kernel.tile_route %l to %i, %w rows %b, %e " +
            std::string(normalize ? "{normalize}" : "") + " : " + logits + ", " + ids + ", " +
            weights + "\nquern_kernel.tile_combine_experts %x by %w to %o rows %b, %e : " + x +
            ", " + weights + ", " + out);
    ASSERT_TRUE(jit.ok());
    Random random(6);
    std::vector<float> in = random.vector(tokens * experts, -20, 20);
    in[3] = in[5] = in[7] = 25; // ties: the lower index first
    std::vector<float> slices = random.vector(tokens * used * width);
    std::vector<int32_t> expectedIds(tokens * used), actualIds(tokens * used);
    std::vector<float> expectedWeights(tokens * used), actualWeights(tokens * used);
    std::vector<float> expected(tokens * width), actual(tokens * width);
    reference::route({in, tokens, experts}, used, normalize, expectedIds, expectedWeights);
    reference::combineExperts(slices, expectedWeights, used, width, expected);
    jit.call("k", 0, tokens, tokens, in.data(), actualIds.data(), actualWeights.data(),
             slices.data(), actual.data());
    EXPECT_EQ(actualIds, expectedIds);
    EXPECT_LT(worstError(actualWeights, expectedWeights, 1e-6), 1e-5);
    EXPECT_LT(worstError(actual, expected, 0.1), 1e-5);
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, RowTiles, testing::ValuesIn(targetOfEachWidth()),
                         [](const auto &info) { return testName(info.param); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(RowTiles);
