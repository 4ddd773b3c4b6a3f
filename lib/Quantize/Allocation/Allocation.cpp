//===- Allocation.cpp - What the engines share ----------------------------===//
//
// Sums, checks, and items tied to each other.
//
//===----------------------------------------------------------------------===//
#include "Allocation.h"
#include "llvm/ADT/STLExtras.h"
#include <cmath>

using namespace quern::quantize;
using llvm::ArrayRef;
using llvm::createStringError;
using llvm::Expected;

Assignment quern::quantize::evaluate(ArrayRef<Item> items, std::vector<uint32_t> choice) {
  Assignment out;
  for (auto [item, index] : llvm::zip(items, choice)) {
    out.bytes += item.options[index].bytes;
    out.work += item.options[index].work;
    out.cost += item.options[index].cost;
  }
  out.choice = std::move(choice);
  return out;
}

static bool onlyWork(Limits limits) {
  return limits.work != Limits::none && limits.bytes == Limits::none;
}

uint32_t quern::quantize::smallest(const Item &item, Limits limits) {
  auto key = [&](const Option &o) {
    uint64_t first = o.bytes, second = o.work;
    if (onlyWork(limits))
      std::swap(first, second);
    return std::tuple(first, o.cost, second);
  };
  auto less = [&](const Option &a, const Option &b) { return key(a) < key(b); };
  return uint32_t(llvm::min_element(item.options, less) - item.options.begin());
}

Expected<Assignment> quern::quantize::smallestAssignment(ArrayRef<Item> items, Limits limits) {
  std::vector<uint32_t> choice;
  uint64_t bytes = 0, work = 0, leastWork = 0;
  for (const Item &item : items) {
    if (item.options.empty())
      return createStringError("'" + item.name + "' has no format to choose from");
    uint64_t mostBytes = 0, mostWork = 0, least = UINT64_MAX;
    for (const Option &option : item.options) {
      if (!std::isfinite(option.cost) || option.cost < 0)
        return createStringError("'" + item.name + "' as " + option.format +
                                 " has a cost that is not a number from 0 on");
      mostBytes = std::max(mostBytes, option.bytes);
      mostWork = std::max(mostWork, option.work);
      least = std::min(least, option.work);
    }
    if (__builtin_add_overflow(bytes, mostBytes, &bytes) ||
        __builtin_add_overflow(work, mostWork, &work))
      return createStringError("the sizes of the formats overflow");
    leastWork += least;
    choice.push_back(smallest(item, limits));
  }
  Assignment out = evaluate(items, std::move(choice));
  if (out.bytes > limits.bytes)
    return createStringError("the budget of " + llvm::Twine(limits.bytes) +
                             " bytes is too small: the smallest formats take " +
                             llvm::Twine(out.bytes));
  if (leastWork > limits.work)
    return createStringError("the budget of " + llvm::Twine(limits.work) +
                             " units of work is too small: the fastest formats take " +
                             llvm::Twine(leastWork));
  return out;
}

Expected<Ties> quern::quantize::tieItems(ArrayRef<Item> items, ArrayRef<uint32_t> groups) {
  Ties out;
  out.groupOf.assign(groups.begin(), groups.end());
  out.items.resize(items.empty() ? 0 : size_t(*llvm::max_element(groups)) + 1);
  std::vector<bool> begun(out.items.size());
  for (auto [i, item] : llvm::enumerate(items)) {
    Item &group = out.items[groups[i]];
    group.elements += item.elements;
    if (!begun[groups[i]]) {
      begun[groups[i]] = true;
      group.name = item.name;
      group.options = item.options;
      continue;
    }
    std::vector<Option> shared;
    for (const Option &option : group.options)
      for (const Option &own : item.options)
        if (own.format == option.format) {
          shared.push_back({own.format, own.bytes + option.bytes, own.cost + option.cost,
                            own.work + option.work});
          break;
        }
    if (shared.empty())
      return createStringError("'" + group.name + "' and '" + item.name +
                               "' are tied, but have no format in common");
    group.options = std::move(shared);
  }
  for (auto [i, item] : llvm::enumerate(items)) {
    auto &own = out.optionOf.emplace_back();
    for (const Option &option : out.items[groups[i]].options) {
      auto same = [&](const Option &o) { return o.format == option.format; };
      own.push_back(uint32_t(llvm::find_if(item.options, same) - item.options.begin()));
    }
  }
  return out;
}

std::vector<uint32_t> Ties::expand(ArrayRef<uint32_t> choice) const {
  std::vector<uint32_t> out;
  for (auto [i, group] : llvm::enumerate(groupOf))
    out.push_back(optionOf[i][choice[group]]);
  return out;
}
