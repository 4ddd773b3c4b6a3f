//===- Knapsack.cpp - The exact engine ------------------------------------===//
//
// best[c]: the least cost of the items so far with at most c units beyond their smallest
// options. The choice of every item at every c is kept, to walk back from the budget.
//
//===----------------------------------------------------------------------===//
#include "Allocation.h"
#include <cmath>
#include <numeric>

using namespace quern::quantize;
using llvm::createStringError;
using llvm::Expected;

Expected<Assignment> quern::quantize::knapsack(llvm::ArrayRef<Item> items, Limits limits,
                                               uint64_t maxCells) {
  bool byWork = limits.work != Limits::none;
  if (byWork && limits.bytes != Limits::none)
    return createStringError("the exact knapsack takes one budget; use --engine ilp or greedy");
  Expected<Assignment> smallest = smallestAssignment(items, limits);
  if (!smallest)
    return smallest;
  auto beyond = [&](size_t i, const Option &option) {
    const Option &least = items[i].options[smallest->choice[i]];
    return byWork ? option.work - least.work : option.bytes - least.bytes;
  };
  uint64_t unit = 0, most = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    uint64_t largest = 0;
    if (items[i].options.size() > 255)
      return createStringError("'" + items[i].name + "' has more than 255 options");
    for (const Option &option : items[i].options) {
      unit = std::gcd(unit, beyond(i, option));
      largest = std::max(largest, beyond(i, option));
    }
    most += largest;
  }
  uint64_t room = byWork ? limits.work - smallest->work : limits.bytes - smallest->bytes;
  room = std::min(room, most);
  constexpr uint64_t workUnits = 65536;
  if (byWork)
    unit = std::max(unit, (room + workUnits - 1) / workUnits);
  if (unit == 0)
    unit = 1;
  auto unitsOf = [&](uint64_t amount) { return (amount + unit - 1) / unit; };
  // Amounts that are rounded up may need a little more than all to take the largest options.
  uint64_t cells = room / unit + 1 + (byWork && room == most ? items.size() : 0);
  if (!items.empty() && cells > maxCells / items.size())
    return createStringError("the exact search would need " + llvm::Twine(cells) + " x " +
                             llvm::Twine(items.size()) + " cells; use another engine");
  std::vector<double> best(cells, 0.0), next(cells);
  std::vector<uint8_t> choices(cells * items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    std::fill(next.begin(), next.end(), INFINITY);
    uint8_t *choice = &choices[i * cells];
    for (size_t o = 0; o < items[i].options.size(); ++o) {
      const Option &option = items[i].options[o];
      uint64_t units = unitsOf(beyond(i, option));
      for (uint64_t c = units; c < cells; ++c)
        if (double cost = best[c - units] + option.cost; cost < next[c]) {
          next[c] = cost;
          choice[c] = uint8_t(o);
        }
    }
    best.swap(next);
  }
  // The fewest units that reach the least cost.
  uint64_t c = cells - 1;
  while (c > 0 && best[c - 1] == best[c])
    --c;
  std::vector<uint32_t> chosen(items.size());
  for (size_t i = items.size(); i-- > 0;) {
    chosen[i] = choices[i * cells + c];
    c -= unitsOf(beyond(i, items[i].options[chosen[i]]));
  }
  Assignment out = evaluate(items, std::move(chosen));
  if (!byWork)
    out.bound = out.cost;
  return out;
}
