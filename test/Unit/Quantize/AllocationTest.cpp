//===- AllocationTest.cpp - The engines against brute force ---------------===//
#include "quern/Quantize/Allocation.h"
#include "llvm/ADT/STLExtras.h"
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
      item.options.push_back(
          {"f" + std::to_string(o), size(random) * granule, cost(random), size(random)});
  return items;
}

/// The least cost within the budgets over all assignments; infinite if none fits.
double bruteForce(const std::vector<Item> &items, Limits limits) {
  std::vector<uint32_t> choice(items.size());
  double best = INFINITY;
  for (;;) {
    Assignment sum = evaluate(items, choice);
    if (sum.within(limits))
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

TEST(Allocation, KindsArePaidOnce) {
  Engine exact = [](llvm::ArrayRef<Item> items, Limits limits) { return knapsack(items, limits); };
  std::mt19937 random(9);
  double ratio = 0;
  int feasible = 0;
  for (int trial = 0; trial < 100; ++trial) {
    std::vector<Item> items = randomItems(random, 5, 4, 1);
    for (Item &item : items)
      for (auto [o, option] : llvm::enumerate(item.options)) {
        option.bytes = 10 * (o + 1); // more bytes cost less
        option.cost /= double(o + 1);
        option.kind = int32_t(o) + 4 * (trial % 2 && &item == &items[0]);
      }
    constexpr uint64_t bytesOfKind = 15, budget = 150;
    double expected = INFINITY;
    std::vector<uint32_t> choice(items.size());
    for (int all = 0; all < 1 << 10; ++all) {
      for (size_t i = 0; i < 5; ++i)
        choice[i] = uint32_t(all >> (2 * i)) & 3;
      Assignment sum = evaluate(items, choice);
      if (sum.bytes + bytesOfKind * countKinds(items, choice) <= budget)
        expected = std::min(expected, sum.cost);
    }
    auto found = allocateKinds(items, budget, bytesOfKind, exact);
    ASSERT_TRUE(bool(found));
    EXPECT_LE(found->bytes + bytesOfKind * countKinds(items, found->choice), budget);
    EXPECT_GE(found->cost, expected - 1e-12);
    ratio += found->cost / expected;
    ++feasible;
    // What one format for all reaches, it reaches.
    for (uint32_t o = 0; o < 4; ++o) {
      Assignment same = evaluate(items, std::vector<uint32_t>(5, o));
      if (same.bytes + bytesOfKind * countKinds(items, same.choice) <= budget)
        EXPECT_LE(found->cost, same.cost + 1e-12);
    }
  }
  EXPECT_LT(ratio / feasible, 1.1);
  // Most would be gained by what fits in part alone: its room does for another kind.
  std::vector<Item> two = {{"large", {{"few", 10, 100, 0, 0}, {"many", 110, 0, 0, 1}}},
                           {"small", {{"few", 10, 50, 0, 2}, {"many", 30, 45, 0, 3}}}};
  EXPECT_EQ(llvm::cantFail(allocateKinds(two, 65, 5, exact)).choice, (std::vector<uint32_t>{0, 1}));
  // Nothing to pay: the engine's own answer.
  std::vector<Item> items = randomItems(random, 5, 4, 1);
  EXPECT_EQ(llvm::cantFail(allocateKinds(items, 150, 0, exact)).choice,
            llvm::cantFail(knapsack(items, 150)).choice);
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
    EXPECT_EQ(exact->bound, exact->cost);
    for (const EngineInfo &engine : engines()) {
      SCOPED_TRACE(engine.name.str());
      auto found = engine.run(items, budget);
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
            std::string("unknown engine 'magic'; known: knapsack, greedy, uniform, baq") +
                (parseEngine("ilp") ? ", ilp" : ""));
}

static bool hasCbc() {
  auto found = parseEngine("ilp");
  llvm::consumeError(found.takeError());
  return bool(found);
}

// Two budgets at once, or one of either kind; ten items, as many assignments as can be tried.
TEST(Allocation, IntegerProgramEqualsBruteForce) {
  if (!hasCbc())
    GTEST_SKIP() << "built without CBC";
  std::mt19937 random(3);
  unsigned feasible = 0;
  for (int trial = 0; trial < 60; ++trial) {
    std::vector<Item> items = randomItems(random, trial ? 1 + trial % 6 : 10, trial ? 4 : 3, 7);
    auto draw = [&](uint64_t most) {
      return std::uniform_int_distribution<uint64_t>(1, items.size() * most)(random);
    };
    Limits limits(trial % 3 == 1 ? Limits::none : draw(7 * 30),
                  trial % 3 == 2 ? Limits::none : draw(30));
    double expected = bruteForce(items, limits);
    auto found = integerProgram(items, limits);
    if (std::isinf(expected)) {
      EXPECT_FALSE(bool(found));
      llvm::consumeError(found.takeError());
      continue;
    }
    ++feasible;
    ASSERT_TRUE(bool(found)) << llvm::toString(found.takeError());
    EXPECT_TRUE(found->within(limits));
    EXPECT_NEAR(found->cost, expected, 1e-9);
    EXPECT_NEAR(found->bound, expected, 1e-3 * expected);
  }
  EXPECT_GT(feasible, 20u);
}

// At the size of a real model the engines agree, and the bound of a search cut short is one.
TEST(Allocation, IntegerProgramOfManyItems) {
  if (!hasCbc())
    GTEST_SKIP() << "built without CBC";
  std::mt19937 random(4);
  std::vector<Item> items = randomItems(random, 120, 7, 32);
  uint64_t budget = 120 * 14 * 32;
  auto exact = knapsack(items, budget);
  auto found = integerProgram(items, budget), cut = integerProgram(items, budget, 1);
  ASSERT_TRUE(exact && found && cut);
  EXPECT_NEAR(found->cost, exact->cost, 1e-6 * exact->cost);
  EXPECT_LE(cut->bound, exact->cost * (1 + 1e-9));
  EXPECT_GE(cut->cost, exact->cost * (1 - 1e-9));
  EXPECT_TRUE(cut->within(budget));
  auto again = integerProgram(items, budget);
  ASSERT_TRUE(bool(again));
  EXPECT_EQ(again->choice, found->choice);
}

TEST(Allocation, KnapsackOverWork) {
  std::mt19937 random(5);
  for (int trial = 0; trial < 60; ++trial) {
    std::vector<Item> items = randomItems(random, 1 + trial % 6, 4, 1);
    uint64_t budget = std::uniform_int_distribution<uint64_t>(1, 200)(random);
    double expected = bruteForce(items, {Limits::none, budget});
    auto found = knapsack(items, {Limits::none, budget});
    EXPECT_EQ(bool(found), std::isfinite(expected));
    if (!found) {
      llvm::consumeError(found.takeError());
      continue;
    }
    EXPECT_LE(found->work, budget);
    EXPECT_NEAR(found->cost, expected, 1e-12);
  }
  // More work than units: what is rounded up stays within the budget and costs little.
  std::vector<Item> items = randomItems(random, 8, 5, 1);
  for (Item &item : items)
    for (Option &option : item.options)
      option.work = option.work * 1000003 + random() % 1000003;
  uint64_t budget = 8 * 15 * 1000003ull;
  auto found = knapsack(items, {Limits::none, budget});
  ASSERT_TRUE(bool(found));
  EXPECT_LE(found->work, budget);
  EXPECT_NEAR(found->cost, bruteForce(items, {Limits::none, budget}), 0.5);
  EXPECT_EQ(llvm::toString(knapsack(items, {1000, budget}).takeError()),
            "the exact knapsack takes one budget; use --engine ilp or greedy");
}

// Bits of bytes, as many as the budget of work leaves.
TEST(Allocation, ClosedFormOverWork) {
  std::mt19937 random(10);
  unsigned feasible = 0;
  for (int trial = 0; trial < 60; ++trial) {
    std::vector<Item> items = randomItems(random, 6, 4, 32);
    uint64_t budget = std::uniform_int_distribution<uint64_t>(60, 240)(random);
    auto exact = knapsack(items, {Limits::none, budget});
    auto found = closedForm(items, {Limits::none, budget});
    EXPECT_EQ(bool(exact), bool(found));
    if (!exact || !found) {
      llvm::consumeError(exact.takeError());
      llvm::consumeError(found.takeError());
      continue;
    }
    ++feasible;
    EXPECT_LE(found->work, budget);
    EXPECT_GE(found->cost, exact->cost - 1e-12);
  }
  EXPECT_GT(feasible, 20u);
  EXPECT_EQ(llvm::toString(closedForm(randomItems(random, 2, 2, 1), {100, 100}).takeError()),
            "the closed form takes one budget; use --engine ilp or greedy");
}

TEST(Allocation, GreedyKeepsBothBudgets) {
  std::mt19937 random(6);
  unsigned found = 0;
  for (int trial = 0; trial < 100; ++trial) {
    std::vector<Item> items = randomItems(random, 8, 5, 1);
    Limits limits(8 * 18, 8 * 18);
    auto some = greedy(items, limits);
    if (!some) {
      llvm::consumeError(some.takeError());
      continue;
    }
    ++found;
    EXPECT_TRUE(some->within(limits));
  }
  EXPECT_GT(found, 80u);
}

TEST(Allocation, GreedyBuysTheMostForAByte) {
  // The first item's step lowers the cost most, the two others' lower it more for each byte.
  std::vector<Item> items(3);
  items[0].options = {{"small", 10, 20, 0}, {"large", 110, 10, 0}};
  for (Item *item : {&items[1], &items[2]})
    item->options = {{"small", 10, 20, 0}, {"large", 60, 12, 0}};
  auto found = llvm::cantFail(greedy(items, 130));
  EXPECT_EQ(found.choice, (std::vector<uint32_t>{0, 1, 1}));
  EXPECT_EQ(found.cost, 20 + 12 + 12);
}

TEST(Allocation, TiedItemsGetTheSameFormat) {
  std::mt19937 random(7);
  std::vector<Item> items = randomItems(random, 6, 4, 3);
  std::vector<uint32_t> groups = {0, 1, 0, 2, 1, 0};
  std::swap(items[2].options[0], items[2].options[3]); // options need not be in order
  items[4].options.erase(items[4].options.begin() + 1);
  auto ties = tieItems(items, groups);
  ASSERT_TRUE(bool(ties));
  ASSERT_EQ(ties->items.size(), 3u);
  EXPECT_EQ(ties->items[1].options.size(), 3u);
  uint64_t budget = 6 * 20 * 3;
  auto found = knapsack(ties->items, budget);
  ASSERT_TRUE(bool(found));
  Assignment whole = evaluate(items, ties->expand(found->choice));
  EXPECT_EQ(whole.bytes, found->bytes);
  EXPECT_NEAR(whole.cost, found->cost, 1e-12);
  for (size_t i = 0; i < items.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (groups[i] == groups[j]) {
        EXPECT_EQ(items[i].options[whole.choice[i]].format,
                  items[j].options[whole.choice[j]].format);
      }
  items[0].options = {{"other", 1, 1}};
  EXPECT_EQ(llvm::toString(tieItems(items, groups).takeError()),
            "'' and '' are tied, but have no format in common");
}

// BAQ's properties: the mean is the budget, losses become equal, and the gain is geo / arith.
TEST(Allocation, ClosedFormMakesLossesEqual) {
  std::mt19937 random(8);
  std::lognormal_distribution<double> loss(0, 1.5);
  std::vector<double> c(500);
  for (double &v : c)
    v = loss(random);
  std::vector<double> bits = closedFormBits(c, {}, 3.25);
  double mean = 0, arith = 0, logs = 0, total = 0;
  for (size_t j = 0; j < c.size(); ++j) {
    mean += bits[j] / double(c.size());
    arith += c[j] / double(c.size());
    logs += std::log(c[j]) / double(c.size());
    total += c[j] * std::pow(4.0, -bits[j]);
    EXPECT_NEAR(c[j] * std::pow(4.0, -bits[j]) / (c[0] * std::pow(4.0, -bits[0])), 1, 1e-9);
  }
  EXPECT_NEAR(mean, 3.25, 1e-9);
  EXPECT_NEAR(total / (double(c.size()) * arith * std::pow(4.0, -3.25)), std::exp(logs) / arith,
              1e-9);
  // Weighted: an item of many weights moves the mean.
  std::vector<double> two = closedFormBits({1, 16}, {3, 1}, 4);
  EXPECT_NEAR(two[0] * 0.75 + two[1] * 0.25, 4, 1e-12);
  EXPECT_NEAR(two[1] - two[0], 2, 1e-12);
}

// Where losses follow the law that the closed form assumes, it finds nearly what is best.
TEST(Allocation, ClosedFormNearTheOptimum) {
  std::mt19937 random(9);
  std::lognormal_distribution<double> loss(0, 2);
  std::vector<Item> items(40);
  for (Item &item : items) {
    item.elements = 4096 * (1 + random() % 4);
    double c = loss(random);
    for (int bits = 2; bits <= 8; ++bits)
      item.options.push_back({"q" + std::to_string(bits), item.elements * unsigned(bits) / 8,
                              double(item.elements) * c * std::pow(4.0, -bits)});
  }
  uint64_t elements = 0;
  for (const Item &item : items)
    elements += item.elements;
  uint64_t budget = elements * 4 / 8;
  auto exact = knapsack(items, budget), closed = closedForm(items, budget),
       same = uniform(items, budget);
  ASSERT_TRUE(exact && closed && same);
  EXPECT_LE(closed->bytes, budget);
  EXPECT_GT(double(closed->bytes), 0.99 * double(budget));
  EXPECT_LT(closed->cost, 1.05 * exact->cost);
  EXPECT_LT(closed->cost, 0.7 * same->cost);
}
