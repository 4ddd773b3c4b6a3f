//===- AttentionTest.cpp - Cache and attention against lib/Reference ------===//
//
// Every cache type, grouped heads, windows, soft caps, several sequences in one step, and
// steps of one token after steps of many; positions across key blocks.
//
//===----------------------------------------------------------------------===//
#include "quern/Reference/Attention.h"
#include "KernelJit.h"
#include "quern/Target/TargetInfo.h"
#include <cmath>
#include <cstdlib>
#include <gtest/gtest.h>

using namespace quern::test;
namespace reference = quern::reference;

namespace {
struct Case {
  const char *name;
  int64_t heads, kvHeads, dim;
  reference::CacheFormat format = reference::CacheFormat::F32;
  int64_t window = 0;
  float softcap = 0;
};

constexpr int64_t capacity = 224, slots = 3, maxTokens = 200;

std::string kernels(const Case &c, const std::string &target) {
  // As the schedule chooses them (ScheduleAttention.cpp).
  int64_t rowBlock = cantFail(quern::target::lookup(target)).vectorBits >= 512 ? 8 : 4;
  bool nibbles = c.format == reference::CacheFormat::Q4;
  bool coded = nibbles || c.format == reference::CacheFormat::Q8_0;
  std::string element = coded ? "i8" : c.format == reference::CacheFormat::F16 ? "f16" : "f32";
  auto mem = [](int64_t a, int64_t b, const std::string &e) {
    return "memref<" + std::to_string(a) + "x" + std::to_string(b) + "x" + e + ">";
  };
  std::string kv = mem(maxTokens, c.kvHeads * c.dim, "f32");
  std::string q = mem(maxTokens, c.heads * c.dim, "f32");
  std::string cache = mem(slots, c.kvHeads * capacity * c.dim / (nibbles ? 2 : 1), element);
  std::string scales = mem(slots, c.kvHeads * capacity * (nibbles ? 1 : c.dim / 32), "f16");
  std::string bits = nibbles ? ", code_bits = 4" : "";
  std::string ids = "memref<" + std::to_string(maxTokens) + "xi32>";
  std::string scaleArguments = coded ? "%ks: " + scales + ", %vs: " + scales + ", " : "";
  std::string scaleUse = coded ? " scales %ks, %vs" : "";
  std::string scaleTypes = coded ? " scales " + scales + ", " + scales : "";
  std::string text = "func.func @store(%k: " + kv + ", %v: " + kv + ", %kc: " + cache +
                     ", %vc: " + cache + ", " + scaleArguments + "%p: " + ids + ", %s: " + ids +
                     ", %b: index, %e: index, %t: index) {\n"
                     "quern_kernel.tile_store_kv %k, %v to %kc, %vc" +
                     scaleUse + " at %p, %s rows %b, %e {kv_heads = " + std::to_string(c.kvHeads) +
                     ", capacity = " + std::to_string(capacity) + bits + "} : " + kv + ", " + kv +
                     ", " + cache + ", " + cache + scaleTypes + ", " + ids + ", " + ids +
                     "\nreturn }\n";
  char scale[32], cap[32];
  snprintf(scale, sizeof scale, "%.9e", 1 / std::sqrt(double(c.dim)));
  snprintf(cap, sizeof cap, "%.9e", double(c.softcap));
  for (bool many : {false, true})
    text +=
        "func.func @attend_" + std::string(many ? "many" : "one") + "(%q: " + q +
        ", %kc: " + cache + ", %vc: " + cache + ", " + scaleArguments + "%p: " + ids +
        ", %s: " + ids + ", %o: " + q +
        ", %b: index, %e: index, %t: index) {\nquern_kernel.tile_attention %q over %kc, %vc" +
        scaleUse + " at %p, %s to %o units %b, %e tokens %t {heads = " + std::to_string(c.heads) +
        ", kv_heads = " + std::to_string(c.kvHeads) + ", capacity = " + std::to_string(capacity) +
        ", scale = " + scale + " : f32, window = " + std::to_string(c.window) +
        ", softcap = " + cap + " : f32, token_block = " + (many ? "16" : "1") + ", row_block = " +
        std::to_string(many ? rowBlock : std::min(rowBlock, c.heads / c.kvHeads)) + bits +
        "} : " + q + ", " + cache + ", " + cache + scaleTypes + ", " + ids + ", " + ids + ", " + q +
        "\nreturn }\n";
  return text;
}

class Attention : public testing::TestWithParam<std::tuple<Case, std::string>> {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Attention);

/// Generated code and reference side by side, step after step.
class Pair {
public:
  explicit Pair(const std::tuple<Case, std::string> &parameters)
      : c(std::get<0>(parameters)), jit(kernels(c, std::get<1>(parameters)), std::get<1>(parameters)),
        expectedCache(c.format, slots, capacity, c.kvHeads, c.dim),
        codes(slots * c.kvHeads * capacity * c.dim * 8 + 64, 0xFF), // NaN where nothing is stored
        scales(slots * c.kvHeads * capacity * c.dim / 32 * 4 + 64, 0xFF) {}

  KernelJit &kernel() { return jit; }

  double step(std::vector<int32_t> positions, std::vector<int32_t> sequences, Random &random,
              int64_t threads) {
    int64_t n = positions.size();
    positions.resize(maxTokens);
    sequences.resize(maxTokens);
    std::vector<float> q = random.vector(maxTokens * c.heads * c.dim, -3, 3);
    std::vector<float> k = random.vector(maxTokens * c.kvHeads * c.dim, -3, 3);
    std::vector<float> v = random.vector(maxTokens * c.kvHeads * c.dim, -2, 2);
    std::vector<float> out(maxTokens * c.heads * c.dim), expected(n * c.heads * c.dim);
    reference::AttentionShape shape;
    shape.heads = c.heads;
    shape.kvHeads = c.kvHeads;
    shape.headDim = c.dim;
    shape.scale = float(1 / std::sqrt(double(c.dim)));
    shape.window = c.window;
    shape.softcap = c.softcap;
    auto first = [n](auto &values, int64_t width) { return std::span(values).first(n * width); };
    reference::attention(first(q, c.heads * c.dim), first(k, c.kvHeads * c.dim),
                         first(v, c.kvHeads * c.dim), first(positions, 1), first(sequences, 1),
                         shape, expectedCache, expected);

    int64_t half = codes.size() / 2 / 64 * 64, halfScales = scales.size() / 2 / 64 * 64;
    uint8_t *kc = codes.data(), *vc = kc + half, *ks = scales.data(), *vs = ks + halfScales;
    int64_t rows = n * c.kvHeads, units = (n == 1 ? 1 : (n + 15) / 16) * c.kvHeads;
    const char *attend = n == 1 ? "attend_one" : "attend_many";
    for (int64_t t = 0; t < threads; ++t) {
      int64_t b = rows * t / threads, e = rows * (t + 1) / threads;
      if (c.format >= reference::CacheFormat::Q8_0)
        jit.call("store", b, e, n, k.data(), v.data(), kc, vc, ks, vs, positions.data(),
                 sequences.data());
      else
        jit.call("store", b, e, n, k.data(), v.data(), kc, vc, positions.data(), sequences.data());
    }
    for (int64_t t = 0; t < threads; ++t) {
      int64_t b = units * t / threads, e = units * (t + 1) / threads;
      if (c.format >= reference::CacheFormat::Q8_0)
        jit.call(attend, b, e, n, q.data(), kc, vc, ks, vs, positions.data(), sequences.data(),
                 out.data());
      else
        jit.call(attend, b, e, n, q.data(), kc, vc, positions.data(), sequences.data(), out.data());
    }
    out.resize(expected.size());
    last = out;
    return worstError(out, expected, 1);
  }
  std::vector<float> last;

private:
  Case c;
  KernelJit jit;
  reference::KvCache expectedCache;
  std::vector<uint8_t> codes, scales;
};

std::vector<int32_t> iota(int32_t from, int32_t count) {
  std::vector<int32_t> v(count);
  for (int32_t i = 0; i < count; ++i)
    v[i] = from + i;
  return v;
}
} // namespace

TEST_P(Attention, MatchesReference) {
  Pair pair(GetParam());
  ASSERT_TRUE(pair.kernel().ok()) << pair.kernel().error;
  Random random(7);
  const double tolerance = 2e-5;
  // A prefill, single tokens, a chunk across a block's end, and a rollback that overwrites.
  EXPECT_LT(pair.step(iota(0, 61), std::vector<int32_t>(61, 1), random, 2), tolerance);
  for (int32_t p : {61, 62, 63, 64, 65})
    EXPECT_LT(pair.step({p}, {1}, random, 1), tolerance) << p;
  EXPECT_LT(pair.step(iota(66, 17), std::vector<int32_t>(17, 1), random, 3), tolerance);
  EXPECT_LT(pair.step(iota(50, 100), std::vector<int32_t>(100, 1), random, 1), tolerance);
  EXPECT_LT(pair.step({0}, {0}, random, 1), tolerance);
}

TEST_P(Attention, SequencesInOneStep) {
  Pair pair(GetParam());
  ASSERT_TRUE(pair.kernel().ok()) << pair.kernel().error;
  Random random(8);
  // Three sequences interleaved in one step; then one token of each.
  std::vector<int32_t> positions = iota(0, 30), sequences(30, 2);
  for (int32_t p : iota(0, 9))
    positions.push_back(p), sequences.push_back(0);
  for (int32_t p : iota(30, 3))
    positions.push_back(p), sequences.push_back(2);
  for (int32_t p : iota(0, 2))
    positions.push_back(p), sequences.push_back(1);
  EXPECT_LT(pair.step(positions, sequences, random, 2), 2e-5);
  EXPECT_LT(pair.step({33, 9, 2}, {2, 0, 1}, random, 2), 2e-5);
}

// The same bytes whoever does the work.
TEST_P(Attention, IndependentOfThreads) {
  Pair one(GetParam()), three(GetParam());
  ASSERT_TRUE(one.kernel().ok() && three.kernel().ok());
  Random a(9), b(9);
  one.step(iota(0, 70), std::vector<int32_t>(70, 0), a, 1);
  three.step(iota(0, 70), std::vector<int32_t>(70, 0), b, 3);
  EXPECT_EQ(one.last, three.last);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, Attention,
    testing::Combine(
        testing::Values(Case{"f32", 4, 2, 32}, Case{"f32_odd", 9, 3, 20},
                        Case{"f16", 9, 3, 64, reference::CacheFormat::F16},
                        Case{"q8_0", 8, 2, 64, reference::CacheFormat::Q8_0},
                        Case{"q4", 8, 2, 64, reference::CacheFormat::Q4},
                        Case{"window", 4, 1, 32, reference::CacheFormat::F32, 7},
                        Case{"wide_window", 2, 2, 32, reference::CacheFormat::F16, 70},
                        Case{"softcap", 2, 1, 32, reference::CacheFormat::F32, 0, 3.0f},
                        Case{"many_groups", 14, 2, 32, reference::CacheFormat::Q8_0, 33, 2.0f}),
        testing::ValuesIn(targetOfEachWidth())),
    [](const auto &info) {
      return std::get<0>(info.param).name + ("_on_" + testName(std::get<1>(info.param)));
    });
