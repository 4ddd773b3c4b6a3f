//===- Greedy.cpp - Each byte where it lowers the cost most ---------------===//
//
// From the smallest assignment by steps of best ratio. The order of items breaks ties.
//
//===----------------------------------------------------------------------===//
#include "Allocation.h"
#include "llvm/ADT/STLExtras.h"
#include <cmath>

using namespace quern::quantize;
using llvm::ArrayRef;
using llvm::createStringError;
using llvm::Expected;

/// The larger of the shares of the budgets that going from `a` to `b` takes; 0 or less: none.
static double share(const Option &a, const Option &b, Limits limits) {
  double out = -1;
  if (limits.bytes != Limits::none)
    out = (double(b.bytes) - double(a.bytes)) / double(std::max<uint64_t>(limits.bytes, 1));
  if (limits.work != Limits::none)
    out = std::max(out,
                   (double(b.work) - double(a.work)) / double(std::max<uint64_t>(limits.work, 1)));
  return out;
}

static bool fits(const Assignment &now, const Option &held, const Option &option, Limits limits) {
  return now.bytes - held.bytes + option.bytes <= limits.bytes &&
         now.work - held.work + option.work <= limits.work;
}

Assignment quern::quantize::improve(ArrayRef<Item> items, Limits limits, Assignment now) {
  for (;;) {
    double best = 0;
    size_t bestItem = 0;
    uint32_t bestOption = 0;
    for (auto [i, item] : llvm::enumerate(items)) {
      const Option &held = item.options[now.choice[i]];
      for (auto [o, option] : llvm::enumerate(item.options)) {
        if (option.cost >= held.cost || !fits(now, held, option, limits))
          continue;
        double taken = share(held, option, limits);
        double ratio = taken > 0 ? (held.cost - option.cost) / taken : INFINITY;
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

Expected<Assignment> quern::quantize::greedy(ArrayRef<Item> items, Limits limits) {
  Expected<Assignment> start = smallestAssignment(items, limits);
  if (!start)
    return start;
  Assignment now = std::move(*start);
  // With two budgets the fewest bytes may take too long: buy time with bytes first.
  while (now.work > limits.work) {
    double best = 0;
    size_t bestItem = 0;
    uint32_t bestOption = 0;
    for (auto [i, item] : llvm::enumerate(items)) {
      const Option &held = item.options[now.choice[i]];
      for (auto [o, option] : llvm::enumerate(item.options)) {
        if (option.work >= held.work || now.bytes - held.bytes + option.bytes > limits.bytes)
          continue;
        double bytes = std::max(1.0, double(option.bytes) - double(held.bytes));
        if (double ratio = double(held.work - option.work) / bytes; ratio > best) {
          best = ratio;
          bestItem = i;
          bestOption = uint32_t(o);
        }
      }
    }
    if (best == 0)
      return createStringError("greedy search found no assignment within both budgets");
    now.choice[bestItem] = bestOption;
    now = evaluate(items, std::move(now.choice));
  }
  return improve(items, limits, std::move(now));
}
