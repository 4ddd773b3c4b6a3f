//===- Kinds.cpp - Options that share a cost paid once --------------------===//
//
// Which kinds to allow: local search, one kind in or out at a time, over the linear relaxation of
// the choice, which is quick and smooth. Then an engine chooses among what is allowed.
//
//===----------------------------------------------------------------------===//
#include "Allocation.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringMap.h"
#include <cmath>
#include <map>
#include <set>

using namespace quern::quantize;
using llvm::ArrayRef;
using llvm::Expected;

using Kinds = std::set<int32_t>; ///< ordered: the search depends on nothing else

static Kinds kindsOf(ArrayRef<Item> items, ArrayRef<uint32_t> choice) {
  Kinds used;
  for (auto [item, index] : llvm::zip_equal(items, choice))
    if (item.options[index].kind >= 0)
      used.insert(item.options[index].kind);
  return used;
}

size_t quern::quantize::countKinds(ArrayRef<Item> items, ArrayRef<uint32_t> choice) {
  return kindsOf(items, choice).size();
}

static bool isAllowed(const Option &option, const Kinds &allowed) {
  return option.kind < 0 || allowed.count(option.kind);
}

namespace {
/// What an item gains by the next bytes.
struct Step {
  double bytes, gain;
};
} // namespace

/// The least cost within `bytes` if options may be mixed: each item goes along the lower convex
/// hull of its options, steps of best ratio first. Infinite if not even the smallest fit.
static double relax(ArrayRef<Item> items, const Kinds &allowed, double bytes) {
  double cost = 0;
  std::vector<Step> steps;
  std::vector<const Option *> options;
  for (const Item &item : items) {
    options.clear();
    for (const Option &option : item.options)
      if (isAllowed(option, allowed))
        options.push_back(&option);
    if (options.empty())
      return INFINITY;
    llvm::sort(options, [](const Option *a, const Option *b) {
      return std::pair(a->bytes, a->cost) < std::pair(b->bytes, b->cost);
    });
    bytes -= double(options[0]->bytes);
    cost += options[0]->cost;
    for (size_t now = 0;;) {
      size_t best = now;
      double ratio = 0;
      for (size_t o = now + 1; o < options.size(); ++o) {
        double more = double(options[o]->bytes - options[now]->bytes);
        double gain = options[now]->cost - options[o]->cost;
        if (more > 0 && gain / more >= ratio && gain > 0) {
          ratio = gain / more;
          best = o;
        }
      }
      if (best == now)
        break;
      steps.push_back({double(options[best]->bytes - options[now]->bytes),
                       options[now]->cost - options[best]->cost});
      now = best;
    }
  }
  if (bytes < 0)
    return INFINITY;
  std::stable_sort(steps.begin(), steps.end(), [](const Step &a, const Step &b) {
    return a.gain * b.bytes > b.gain * a.bytes;
  });
  for (const Step &step : steps) {
    if (step.bytes > bytes)
      return cost - step.gain * bytes / step.bytes;
    bytes -= step.bytes;
    cost -= step.gain;
  }
  return cost;
}

/// The kinds to allow; empty if no set was found that fits.
static Kinds chooseKinds(ArrayRef<Item> items, uint64_t bytes, uint64_t bytesOfKind) {
  auto costOf = [&](const Kinds &allowed) {
    return relax(items, allowed, double(bytes) - double(bytesOfKind) * double(allowed.size()));
  };
  // Starting points: one format for all, and the smallest options.
  std::vector<Kinds> starts(1);
  llvm::StringMap<size_t> startOf;
  Kinds all;
  for (const Item &item : items) {
    starts[0].insert(item.options[smallest(item, bytes)].kind);
    for (const Option &option : item.options) {
      all.insert(option.kind);
      auto [place, isNew] = startOf.try_emplace(option.format, starts.size());
      if (isNew)
        starts.emplace_back();
    }
  }
  for (const Item &item : items)
    for (auto &entry : startOf) {
      auto found =
          llvm::find_if(item.options, [&](const Option &o) { return o.format == entry.first(); });
      const Option &option =
          found == item.options.end() ? item.options[smallest(item, bytes)] : *found;
      starts[entry.second].insert(option.kind);
    }
  all.erase(-1);
  Kinds best;
  double least = INFINITY;
  for (Kinds &start : starts) {
    start.erase(-1);
    if (double cost = costOf(start); cost < least) {
      least = cost;
      best = start;
    }
  }
  while (std::isfinite(least)) {
    Kinds next = best;
    double cost = least;
    for (int32_t kind : all) {
      Kinds tried = best;
      if (!tried.erase(kind))
        tried.insert(kind);
      if (double c = costOf(tried); c < cost * (1 - 1e-9)) {
        cost = c;
        next = std::move(tried);
      }
    }
    if (next == best)
      break;
    best = std::move(next);
    least = cost;
  }
  return best;
}

/// What the engine chooses among options of these kinds, but for those that then no item has, which
/// need not be paid for; `allowed` is what is left.
static Expected<Assignment> chooseAmong(ArrayRef<Item> items, Limits limits, uint64_t bytesOfKind,
                                        Engine engine, Kinds &allowed) {
  for (;;) {
    std::vector<Item> restricted(items.begin(), items.end());
    std::vector<std::vector<uint32_t>> indices(items.size());
    for (auto [item, from, index] : llvm::zip_equal(restricted, items, indices)) {
      item.options.clear();
      for (auto [o, option] : llvm::enumerate(from.options))
        if (isAllowed(option, allowed)) {
          item.options.push_back(option);
          index.push_back(uint32_t(o));
        }
    }
    uint64_t taken = bytesOfKind * allowed.size();
    Limits left(limits.bytes - std::min(limits.bytes, taken), limits.work);
    Expected<Assignment> found = engine(restricted, left);
    if (!found)
      return found;
    for (auto [choice, index] : llvm::zip_equal(found->choice, indices))
      choice = index[choice];
    Kinds used = kindsOf(items, found->choice);
    if (used == allowed)
      return found;
    allowed = std::move(used);
  }
}

/// What `now` becomes if items take options of one more kind as long as they fit, by best ratio.
static Assignment withKind(ArrayRef<Item> items, Limits limits, Assignment now, int32_t kind) {
  for (;;) {
    double best = 0;
    std::vector<uint32_t> next;
    for (auto [i, item] : llvm::enumerate(items)) {
      const Option &held = item.options[now.choice[i]];
      for (auto [o, option] : llvm::enumerate(item.options)) {
        if (option.kind != kind || option.cost >= held.cost ||
            now.bytes - held.bytes + option.bytes > limits.bytes ||
            now.work - held.work + option.work > limits.work)
          continue;
        double taken = std::max(1.0, double(option.bytes) - double(held.bytes));
        if (double ratio = (held.cost - option.cost) / taken; ratio > best) {
          best = ratio;
          next = now.choice;
          next[i] = uint32_t(o);
        }
      }
    }
    if (next.empty())
      return now;
    now = evaluate(items, std::move(next));
  }
}

Expected<Assignment> quern::quantize::allocateKinds(ArrayRef<Item> items, Limits limits,
                                                    uint64_t bytesOfKind, Engine engine) {
  if (!bytesOfKind || limits.bytes == Limits::none)
    return engine(items, limits);
  Expected<Assignment> checked = smallestAssignment(items, limits);
  if (!checked)
    return checked;
  Kinds allowed = chooseKinds(items, limits.bytes, bytesOfKind);
  if (allowed.empty())
    return engine(items, limits); // no options have kinds, or what the engine says of it
  Expected<Assignment> best = chooseAmong(items, limits, bytesOfKind, engine, allowed);
  // The relaxation takes parts of options: of a kind that only fits in part, nothing is left, and
  // what it was to take may do for another one.
  while (best) {
    uint64_t code = bytesOfKind * (allowed.size() + 1);
    if (code > limits.bytes)
      break;
    Limits left(limits.bytes - code, limits.work);
    Kinds others;
    for (const Item &item : items)
      for (const Option &option : item.options)
        if (!isAllowed(option, allowed))
          others.insert(option.kind);
    Assignment more = *best;
    for (int32_t kind : others)
      if (Assignment tried = withKind(items, left, *best, kind); tried.cost < more.cost)
        more = std::move(tried);
    if (more.cost >= best->cost)
      break;
    allowed = kindsOf(items, more.choice);
    Expected<Assignment> found = chooseAmong(items, limits, bytesOfKind, engine, allowed);
    if (found && found->cost <= more.cost) {
      best = std::move(found);
    } else {
      llvm::consumeError(found.takeError());
      allowed = kindsOf(items, more.choice);
      best = std::move(more);
    }
  }
  return best;
}
