//===- AllocationTest.cpp - The engines against brute force ---------------===//
#include "quern/Quantize/Allocation.h"
#include <cmath>
#include <gtest/gtest.h>
#include <random>

using namespace quern::quantize;

namespace {
std::vector<Item> randomItems(std::mt19937 &random, unsigned count, unsigned options,
                              uint64_t granule) {
  std::vector<Item> items(count);
  std::uniform_int_distribution<uint64_t> size(1, 40);
  std::uniform_real_distribution<double> cost(0, 10);
  for (auto &item : items)
    for (unsigned o = 0; o < options; ++o)
      item.options.push_back({"f" + std::to_string(o), size(random) * granule, cost(random)});
  return items;
}

/// The least cost within the budget over all assignments; infinite if none fits.
double bruteForce(const std::vector<Item> &items, uint64_t budget) {
  std::vector<uint32_t> choice(items.size());
  double best = INFINITY;
  for (;;) {
    Assignment sum = evaluate(items, choice);
    if (sum.bytes <= budget)
      best = std::min(best, sum.cost);
    size_t i = 0;
    while (i < items.size() && ++choice[i] == items[i].options.size())
      choice[i++] = 0;
    if (i == items.size())
      return best;
  }
}
} // namespace

TEST(Allocation, KnapsackEqualsBruteForce) {
  std::mt19937 random(1);
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<Item> items = randomItems(random, 1 + trial % 6, 1 + trial % 5, 1 + trial % 7);
    uint64_t budget = std::uniform_int_distribution<uint64_t>(1, 200 * (1 + trial % 7))(random);
    double expected = bruteForce(items, budget);
    auto found = knapsack(items, budget);
    if (std::isinf(expected)) {
      EXPECT_FALSE(bool(found));
      llvm::consumeError(found.takeError());
      continue;
    }
    ASSERT_TRUE(bool(found));
    EXPECT_LE(found->bytes, budget);
    EXPECT_NEAR(found->cost, expected, 1e-12);
    EXPECT_EQ(evaluate(items, found->choice).cost, found->cost);
  }
}

TEST(Allocation, OthersAreFeasibleAndNoBetter) {
  std::mt19937 random(2);
  for (int trial = 0; trial < 100; ++trial) {
    std::vector<Item> items = randomItems(random, 8, 4, 32);
    uint64_t budget = 8 * 20 * 32;
    auto exact = knapsack(items, budget);
    if (!exact) {
      llvm::consumeError(exact.takeError());
      continue;
    }
    for (auto engine : {greedy, uniform}) {
      auto found = engine(items, budget);
      ASSERT_TRUE(bool(found));
      EXPECT_LE(found->bytes, budget);
      EXPECT_GE(found->cost, exact->cost - 1e-12);
    }
  }
}

TEST(Allocation, UniformTakesOneFormat) {
  std::vector<Item> items(3);
  for (Item &item : items)
    item.options = {{"small", 10, 5}, {"middle", 20, 2}, {"large", 30, 1}};
  auto found = uniform(items, 65);
  ASSERT_TRUE(bool(found));
  EXPECT_EQ(found->choice, (std::vector<uint32_t>{1, 1, 1}));
  // The exact engine spends what is left.
  auto exact = knapsack(items, 70);
  ASSERT_TRUE(bool(exact));
  EXPECT_EQ(exact->bytes, 70u);
  EXPECT_EQ(exact->cost, 5);
}

TEST(Allocation, Errors) {
  std::vector<Item> items(1);
  items[0].name = "w";
  auto message = [&](uint64_t budget) {
    auto found = knapsack(items, budget);
    return found ? std::string() : llvm::toString(found.takeError());
  };
  EXPECT_EQ(message(10), "'w' has no format to choose from");
  items[0].options = {{"q4_0", 18, 1}};
  EXPECT_EQ(message(10), "the budget of 10 bytes is too small: the smallest formats take 18");
  items[0].options[0].cost = NAN;
  EXPECT_EQ(message(20), "'w' as q4_0 has a cost that is not a number from 0 on");
  EXPECT_EQ(llvm::toString(parseEngine("magic").takeError()),
            "unknown engine 'magic'; known: knapsack, greedy, uniform");
}
