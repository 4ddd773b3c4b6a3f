//===- Uniform.cpp - One format for all -----------------------------------===//
//
// What the other engines are measured against.
//
//===----------------------------------------------------------------------===//
#include "Allocation.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSet.h"

using namespace quern::quantize;
using llvm::Expected;

Expected<Assignment> quern::quantize::uniform(llvm::ArrayRef<Item> items, Limits limits) {
  Expected<Assignment> best = smallestAssignment(items, limits);
  if (!best)
    return best;
  bool any = best->within(limits);
  llvm::StringSet<> seen;
  for (const Item &reference : items)
    for (const Option &wanted : reference.options) {
      if (!seen.insert(wanted.format).second)
        continue;
      std::vector<uint32_t> choice;
      for (const Item &item : items) {
        auto same = [&](const Option &o) { return o.format == wanted.format; };
        auto found = llvm::find_if(item.options, same);
        choice.push_back(found == item.options.end() ? smallest(item, limits)
                                                     : uint32_t(found - item.options.begin()));
      }
      Assignment sum = evaluate(items, std::move(choice));
      if (sum.within(limits) && (!any || sum.cost < best->cost)) {
        *best = std::move(sum);
        any = true;
      }
    }
  if (!any)
    return llvm::createStringError("no format for all is within both budgets");
  return best;
}
