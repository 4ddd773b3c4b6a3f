//===- Allocation.cpp - Which tensor gets which format --------------------===//
//
// What the engines share, and the simple ones; the exact one is Knapsack.cpp's.
//
//===----------------------------------------------------------------------===//
#include "Allocation.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSet.h"
#include <cmath>

using namespace quern::quantize;
using llvm::ArrayRef;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

Assignment quern::quantize::evaluate(ArrayRef<Item> items, std::vector<uint32_t> choice) {
  Assignment out;
  for (auto [item, index] : llvm::zip(items, choice)) {
    out.bytes += item.options[index].bytes;
    out.cost += item.options[index].cost;
  }
  out.choice = std::move(choice);
  return out;
}

/// Index of the option of fewest bytes, among equals the cheapest.
static uint32_t smallest(const Item &item) {
  auto less = [](const Option &a, const Option &b) {
    return std::pair(a.bytes, a.cost) < std::pair(b.bytes, b.cost);
  };
  return uint32_t(llvm::min_element(item.options, less) - item.options.begin());
}

Expected<Assignment> quern::quantize::smallestAssignment(ArrayRef<Item> items, uint64_t budget) {
  std::vector<uint32_t> choice;
  uint64_t sum = 0;
  for (const Item &item : items) {
    if (item.options.empty())
      return createStringError("'" + item.name + "' has no format to choose from");
    uint64_t largest = 0;
    for (const Option &option : item.options) {
      if (!std::isfinite(option.cost) || option.cost < 0)
        return createStringError("'" + item.name + "' as " + option.format +
                                 " has a cost that is not a number from 0 on");
      largest = std::max(largest, option.bytes);
    }
    if (__builtin_add_overflow(sum, largest, &sum))
      return createStringError("the sizes of the formats overflow");
    choice.push_back(smallest(item));
  }
  Assignment out = evaluate(items, std::move(choice));
  if (out.bytes > budget)
    return createStringError("the budget of " + llvm::Twine(budget) +
                             " bytes is too small: the smallest formats take " +
                             llvm::Twine(out.bytes));
  return out;
}

Expected<Assignment> quern::quantize::greedy(ArrayRef<Item> items, uint64_t budget) {
  Expected<Assignment> start = smallestAssignment(items, budget);
  if (!start)
    return start;
  Assignment now = std::move(*start);
  for (;;) {
    double best = 0;
    size_t bestItem = 0;
    uint32_t bestOption = 0;
    for (auto [i, item] : llvm::enumerate(items)) {
      const Option &held = item.options[now.choice[i]];
      for (auto [o, option] : llvm::enumerate(item.options)) {
        if (option.cost >= held.cost || now.bytes - held.bytes + option.bytes > budget)
          continue;
        double gain = held.cost - option.cost;
        double ratio =
            option.bytes > held.bytes ? gain / double(option.bytes - held.bytes) : INFINITY;
        if (ratio > best) {
          best = ratio;
          bestItem = i;
          bestOption = uint32_t(o);
        }
      }
    }
    if (best == 0)
      return now;
    now.choice[bestItem] = bestOption;
    now = evaluate(items, std::move(now.choice));
  }
}

Expected<Assignment> quern::quantize::uniform(ArrayRef<Item> items, uint64_t budget) {
  Expected<Assignment> best = smallestAssignment(items, budget);
  if (!best)
    return best;
  llvm::StringSet<> seen;
  for (const Item &reference : items)
    for (const Option &wanted : reference.options) {
      if (!seen.insert(wanted.format).second)
        continue;
      std::vector<uint32_t> choice;
      for (const Item &item : items) {
        auto same = [&](const Option &o) { return o.format == wanted.format; };
        auto found = llvm::find_if(item.options, same);
        choice.push_back(found == item.options.end() ? smallest(item)
                                                     : uint32_t(found - item.options.begin()));
      }
      Assignment sum = evaluate(items, std::move(choice));
      if (sum.bytes <= budget && sum.cost < best->cost)
        *best = std::move(sum);
    }
  return best;
}

static Expected<Assignment> exact(ArrayRef<Item> items, uint64_t budget) {
  return knapsack(items, budget);
}

Expected<Engine> quern::quantize::parseEngine(llvm::StringRef name) {
  static constexpr std::pair<llvm::StringLiteral, Engine> engines[] = {
      {"knapsack", exact}, {"greedy", greedy}, {"uniform", uniform}};
  for (const auto &[text, engine] : engines)
    if (text == name)
      return engine;
  return createStringError("unknown engine '" + name + "'; known: knapsack, greedy, uniform");
}
