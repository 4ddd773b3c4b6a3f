// Sampling against a plain reference, and stop strings across pieces of text.
#include "quern/Runtime/Sampler.h"
#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <map>
#include <numeric>

using namespace quern::runtime;

namespace {
/// The distribution the options describe, the plain way: sort everything, filter in order.
std::map<int32_t, double> reference(std::vector<double> logits, const SamplerOptions &o,
                                    const std::vector<int32_t> &history) {
  std::vector<bool> seen(logits.size());
  size_t recent =
      o.repeatLast < 0 ? history.size() : std::min<size_t>(o.repeatLast, history.size());
  for (size_t i = history.size() - recent; i < history.size(); ++i)
    seen[history[i]] = true;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (seen[i])
      logits[i] = logits[i] > 0 ? logits[i] / o.repeatPenalty : logits[i] * o.repeatPenalty;
    logits[i] /= o.temperature;
  }
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int a, int b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  if (o.topK > 0 && size_t(o.topK) < order.size())
    order.resize(o.topK);
  std::vector<double> p;
  for (int32_t id : order)
    p.push_back(std::exp(logits[id] - logits[order[0]]));
  double total = std::accumulate(p.begin(), p.end(), 0.0), sum = 0;
  size_t kept = 0;
  while (kept < p.size()) {
    if (kept > 0 && p[kept] < o.minP)
      break;
    sum += p[kept++];
    if (o.topP < 1 && sum >= o.topP * total)
      break;
  }
  std::map<int32_t, double> out;
  for (size_t i = 0; i < kept; ++i)
    out[order[i]] = p[i] / sum;
  return out;
}

std::vector<float> someLogits(size_t n, uint64_t seed) {
  SamplerOptions o;
  o.seed = seed;
  Sampler noise(o);
  std::vector<float> out(n);
  for (float &l : out)
    l = static_cast<float>(noise.uniform() * 8 - 4);
  return out;
}

void checkDistribution(SamplerOptions o, size_t vocabulary) {
  std::vector<float> logits = someLogits(vocabulary, 7);
  std::vector<int32_t> history = {3, 5, 5, 8, 1};
  auto expected = reference({logits.begin(), logits.end()}, o, history);
  o.seed = 42;
  Sampler sampler(o);
  std::map<int32_t, int> counts;
  const int draws = 40000;
  for (int i = 0; i < draws; ++i)
    ++counts[sampler.sample(logits, history)];
  for (const auto &[id, n] : counts)
    ASSERT_TRUE(expected.count(id)) << id << " should have been filtered out";
  for (const auto &[id, p] : expected)
    EXPECT_NEAR(counts[id] / double(draws), p, 5 * std::sqrt(p * (1 - p) / draws) + 1e-9) << id;
}
} // namespace

TEST(Sampler, Distributions) {
  SamplerOptions o;
  o.temperature = 1;
  checkDistribution(o, 40);
  o.temperature = 0.6f;
  checkDistribution(o, 40);
  o.topK = 9;
  checkDistribution(o, 40);
  o.topP = 0.8f;
  checkDistribution(o, 40);
  o.topK = 0;
  checkDistribution(o, 40);
  o.minP = 0.2f;
  checkDistribution(o, 40);
  o.topP = 1;
  checkDistribution(o, 40);
  o.repeatPenalty = 1.5f;
  checkDistribution(o, 40);
  o.repeatLast = 2;
  checkDistribution(o, 40);
}

// More candidates than are sorted at once.
TEST(Sampler, KeepsTheSameSetHoweverMuchItSorts) {
  SamplerOptions o;
  o.temperature = 3;
  o.topP = 0.95f;
  std::vector<float> logits = someLogits(3000, 11);
  auto expected = reference({logits.begin(), logits.end()}, o, {});
  ASSERT_GT(expected.size(), 2100u);
  Sampler sampler(o);
  for (int i = 0; i < 3000; ++i)
    ASSERT_TRUE(expected.count(sampler.sample(logits, {})));
}

TEST(Sampler, GreedyTakesTheLowestOfEquals) {
  std::vector<float> logits = {1, 4, 2, 4, NAN};
  Sampler sampler({});
  EXPECT_EQ(sampler.sample(logits, {}), 1);
  EXPECT_EQ(sampler.sample(std::vector<float>{NAN, NAN}, {}), -1);
  EXPECT_EQ(sampler.sample(std::vector<float>{}, {}), -1);
  SamplerOptions o;
  o.repeatPenalty = 5;
  EXPECT_EQ(Sampler(o).sample(logits, std::vector<int32_t>{1}), 3);
  EXPECT_EQ(Sampler(o).sample(std::vector<float>{-1, -2}, std::vector<int32_t>{0}), 1);
}

TEST(Sampler, SeedsDecide) {
  std::vector<float> logits = someLogits(100, 1);
  SamplerOptions o;
  o.temperature = 1;
  auto run = [&](uint64_t seed) {
    o.seed = seed;
    Sampler sampler(o);
    std::vector<int32_t> out;
    for (int i = 0; i < 50; ++i)
      out.push_back(sampler.sample(logits, {}));
    return out;
  };
  EXPECT_EQ(run(1), run(1));
  EXPECT_NE(run(1), run(2));
  // Pinned, so that a seed goes on meaning the same text.
  o.seed = 1;
  EXPECT_EQ(Sampler(o).uniform(), 0x1.22145bd91204bp-1);
}

TEST(Sampler, PortableExp) {
  for (double x = 0; x > -60; x -= 0.37)
    EXPECT_NEAR(portableExp(x) / std::exp(x), 1, 1e-14) << x;
  EXPECT_EQ(portableExp(-HUGE_VAL), 0);
  EXPECT_EQ(portableExp(0), 1);
}

TEST(Sampler, OptionsAreChecked) {
  SamplerOptions o;
  EXPECT_EQ(o.check(), "");
  o.topP = 0;
  EXPECT_EQ(o.check(), "--top-p must be above 0 and at most 1");
  o = {};
  o.temperature = NAN;
  EXPECT_NE(o.check(), "");
}

TEST(StopMatcher, AcrossPieces) {
  // However the text is cut, the same is shown and the stop string never is.
  const std::string text = "one <end, then <<end> rest";
  for (size_t step = 1; step < 8; ++step) {
    StopMatcher m({"<end>", "xyz"});
    std::string shown;
    for (size_t i = 0; i < text.size(); i += step)
      shown += m.push(std::string_view(text).substr(i, step));
    EXPECT_TRUE(m.stopped());
    EXPECT_EQ(shown + m.flush(), "one <end, then <");
  }
}

TEST(StopMatcher, HoldsBackNoMoreThanItMust) {
  StopMatcher m({"abc", "bd"});
  EXPECT_EQ(m.push("xa"), "x");
  EXPECT_EQ(m.push("b"), "");
  EXPECT_EQ(m.push("e"), "abe");
  EXPECT_EQ(m.push("ab"), "");
  EXPECT_EQ(m.flush(), "ab");
  EXPECT_FALSE(m.stopped());
  EXPECT_EQ(m.push("a"), "");
  EXPECT_EQ(m.push("bd"), "a");
  EXPECT_TRUE(m.stopped());
  EXPECT_EQ(m.push("more"), "");
  StopMatcher none({""});
  EXPECT_EQ(none.push("text"), "text");
}
