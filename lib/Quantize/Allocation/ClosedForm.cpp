//===- ClosedForm.cpp - BAQ's bits ----------------------------------------===//
//
// Source: BAQ (CSU-ModelCompression); the rounding to formats is ours.
//
//===----------------------------------------------------------------------===//
#include "Allocation.h"
#include "llvm/ADT/STLExtras.h"
#include <cmath>

using namespace quern::quantize;
using llvm::ArrayRef;
using llvm::createStringError;
using llvm::Expected;

std::vector<double> quern::quantize::closedFormBits(ArrayRef<double> losses,
                                                    ArrayRef<uint64_t> counts, double meanBits) {
  double least = INFINITY, logs = 0, all = 0;
  for (double c : losses)
    if (c > 0)
      least = std::min(least, c);
  if (std::isinf(least))
    return std::vector<double>(losses.size(), meanBits);
  auto logOf = [&](size_t j) { return std::log2(std::max(losses[j], least)); };
  for (size_t j = 0; j < losses.size(); ++j) {
    double count = counts.empty() ? 1 : double(counts[j]);
    logs += count * logOf(j);
    all += count;
  }
  std::vector<double> bits;
  for (size_t j = 0; j < losses.size(); ++j)
    bits.push_back(meanBits + (logOf(j) - logs / all) / 2);
  return bits;
}

Expected<Assignment> quern::quantize::closedForm(ArrayRef<Item> items, Limits limits) {
  if (limits.bytes != Limits::none && limits.work != Limits::none)
    return createStringError("the closed form takes one budget; use --engine ilp or greedy");
  Expected<Assignment> start = smallestAssignment(items, limits);
  if (!start)
    return start;
  auto bitsOf = [](const Item &item, const Option &option) {
    return 8 * double(option.bytes) / double(item.elements ? item.elements : 8);
  };
  // A weight's c of cost = elements c 4^-R, the geometric mean over what the options say.
  std::vector<double> losses;
  std::vector<uint64_t> counts;
  for (const Item &item : items) {
    double logs = 0, known = 0;
    for (const Option &option : item.options)
      if (option.cost > 0) {
        logs += std::log2(option.cost) + 2 * bitsOf(item, option);
        ++known;
      }
    counts.push_back(item.elements ? item.elements : 1);
    losses.push_back(known > 0 ? std::exp2(logs / known) / double(counts.back()) : 0);
  }
  std::vector<double> bits = closedFormBits(losses, counts, 0);
  auto at = [&](double mean) {
    std::vector<uint32_t> choice;
    for (auto [i, item] : llvm::enumerate(items)) {
      uint32_t best = start->choice[i];
      for (auto [o, option] : llvm::enumerate(item.options)) {
        const Option &held = item.options[best];
        if (bitsOf(item, option) <= mean + bits[i] && option.cost < held.cost)
          best = uint32_t(o);
      }
      choice.push_back(best);
    }
    return evaluate(items, std::move(choice));
  };
  // More bits for all never take fewer bytes, as long as the larger formats are the better ones.
  double low = -64, high = 64;
  for (int step = 0; step < 60; ++step) {
    double middle = (low + high) / 2;
    (at(middle).within(limits) ? low : high) = middle;
  }
  Assignment found = at(low);
  return improve(items, limits, found.within(limits) ? std::move(found) : std::move(*start));
}
