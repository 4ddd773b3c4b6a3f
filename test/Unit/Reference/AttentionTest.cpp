// Attention: what it must not see, and what it must average.
#include "quern/Reference/Attention.h"
#include "gtest/gtest.h"
#include <cmath>
#include <random>

using namespace quern::reference;

namespace {
struct Inputs {
  std::vector<float> q, k, v;
  std::vector<int32_t> positions, sequences;
};

Inputs randomInputs(int tokens, const AttentionShape &s, uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  Inputs in;
  auto fill = [&](std::vector<float> &v, int64_t count) {
    v.resize(count);
    for (float &x : v)
      x = normal(engine);
  };
  fill(in.q, tokens * s.heads * s.headDim);
  fill(in.k, tokens * s.kvHeads * s.headDim);
  fill(in.v, tokens * s.kvHeads * s.headDim);
  for (int t = 0; t < tokens; ++t)
    in.positions.push_back(t), in.sequences.push_back(0);
  return in;
}

std::vector<float> run(const Inputs &in, const AttentionShape &s, KvCache &cache, size_t begin,
                       size_t end) {
  size_t q = s.heads * s.headDim, kv = s.kvHeads * s.headDim, n = end - begin;
  std::vector<float> out(n * q);
  attention(std::span(in.q).subspan(begin * q, n * q), std::span(in.k).subspan(begin * kv, n * kv),
            std::span(in.v).subspan(begin * kv, n * kv), std::span(in.positions).subspan(begin, n),
            std::span(in.sequences).subspan(begin, n), s, cache, out);
  return out;
}

/// The definition, written over the whole score matrix.
std::vector<float> direct(const Inputs &in, const AttentionShape &s) {
  int tokens = in.positions.size(), d = s.headDim;
  std::vector<float> out(in.q.size());
  for (int t = 0; t < tokens; ++t)
    for (int h = 0; h < s.heads; ++h) {
      std::vector<double> weight(tokens, 0);
      double total = 0;
      int kvHead = h / (s.heads / s.kvHeads);
      for (int o = 0; o < tokens; ++o) {
        int distance = in.positions[t] - in.positions[o];
        if (in.sequences[o] != in.sequences[t] || distance < 0 ||
            (s.window && distance >= s.window))
          continue;
        double score = 0;
        for (int i = 0; i < d; ++i)
          score += double(in.q[(t * s.heads + h) * d + i]) *
                   in.k[(o * s.kvHeads + kvHead) * d + i] * s.scale;
        if (s.softcap)
          score = std::tanh(score / s.softcap) * s.softcap;
        total += weight[o] = std::exp(score);
      }
      for (int i = 0; i < d; ++i) {
        double sum = 0;
        for (int o = 0; o < tokens; ++o)
          sum += weight[o] / total * in.v[(o * s.kvHeads + kvHead) * d + i];
        out[(t * s.heads + h) * d + i] = sum;
      }
    }
  return out;
}

void expectNear(const std::vector<float> &a, const std::vector<float> &b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i)
    ASSERT_NEAR(a[i], b[i], tolerance) << i;
}
} // namespace

TEST(Attention, AgreesWithTheScoreMatrix) {
  AttentionShape shapes[] = {{4, 4, 8, 0.3}, {6, 2, 8, 0.5}, {4, 1, 8, 1, 3}, {4, 2, 8, 2, 5, 1.5}};
  for (const AttentionShape &s : shapes) {
    Inputs in = randomInputs(12, s, 1);
    KvCache cache(CacheFormat::F32, 1, 12, s.kvHeads, s.headDim);
    expectNear(run(in, s, cache, 0, 12), direct(in, s), 1e-5);
  }
}

TEST(Attention, ChunksMakeNoDifference) {
  AttentionShape s{4, 2, 8, 0.5, 6};
  Inputs in = randomInputs(13, s, 2);
  for (CacheFormat format :
       {CacheFormat::F32, CacheFormat::F16, CacheFormat::Q8_0, CacheFormat::Q4}) {
    KvCache whole(format, 1, 13, s.kvHeads, s.headDim);
    std::vector<float> expected = run(in, s, whole, 0, 13), pieces;
    KvCache cache(format, 1, 13, s.kvHeads, s.headDim);
    for (auto [begin, end] : {std::pair(0, 5), {5, 6}, {6, 13}}) {
      std::vector<float> part = run(in, s, cache, begin, end);
      pieces.insert(pieces.end(), part.begin(), part.end());
    }
    EXPECT_EQ(pieces, expected);
  }
}

TEST(Attention, SequencesDoNotSeeEachOther) {
  AttentionShape s{2, 1, 4, 1};
  Inputs in = randomInputs(10, s, 3);
  in.sequences = {0, 1, 0, 0, 1, 1, 0, 1, 1, 0}; // interleaved, each in order
  in.positions = {0, 0, 1, 2, 1, 2, 3, 3, 4, 4};
  KvCache cache(CacheFormat::F32, 2, 5, s.kvHeads, s.headDim);
  expectNear(run(in, s, cache, 0, 10), direct(in, s), 1e-5);
}

TEST(Attention, LaterTokensMakeNoDifference) {
  AttentionShape s{2, 2, 4, 1};
  Inputs in = randomInputs(6, s, 4);
  KvCache a(CacheFormat::F32, 1, 6, 2, 4), b(CacheFormat::F32, 1, 6, 2, 4);
  std::vector<float> before = run(in, s, a, 0, 6);
  in.k[5 * 8] += 100;
  in.v[5 * 8] += 100;
  std::vector<float> after = run(in, s, b, 0, 6);
  EXPECT_EQ(std::vector(before.begin(), before.begin() + 40),
            std::vector(after.begin(), after.begin() + 40));
  EXPECT_NE(before, after);
}

TEST(Attention, TheCacheRoundsWhatItStores) {
  AttentionShape s{1, 1, 4, 1};
  Inputs in = randomInputs(1, s, 5); // one token: the result is its stored value
  for (CacheFormat format :
       {CacheFormat::F32, CacheFormat::F16, CacheFormat::Q8_0, CacheFormat::Q4}) {
    KvCache cache(format, 1, 1, 1, 4);
    std::vector<float> rounded = in.v;
    roundToCache(format, rounded);
    EXPECT_EQ(rounded == in.v, format == CacheFormat::F32);
    expectNear(run(in, s, cache, 0, 1), rounded, 0);
  }
}

TEST(Attention, LargeScoresDoNotOverflow) {
  AttentionShape s{1, 1, 2, 1e4};
  Inputs in = randomInputs(3, s, 6);
  KvCache cache(CacheFormat::F32, 1, 3, 1, 2);
  for (float x : run(in, s, cache, 0, 3))
    EXPECT_TRUE(std::isfinite(x));
}
