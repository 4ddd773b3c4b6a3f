//===- IntegerProgram.cpp - Branch and cut by CBC -------------------------===//
//
// x[i, o] is 1 where item i has option o: each item has one, what they take is within the budgets.
// Costs and resources are scaled to the magnitudes that a solver's tolerances are made for, and
// what it finds is added up again in integers.
//
//===----------------------------------------------------------------------===//
#include "Allocation.h"
#include "llvm/ADT/STLExtras.h"
#include <cmath>
#include <memory>

using namespace quern::quantize;
using llvm::ArrayRef;
using llvm::createStringError;
using llvm::Expected;

#ifdef QUERN_CBC
#include <coin/Cbc_C_Interface.h>

namespace {
/// An option that is not worse than another in everything.
struct Variable {
  uint32_t item, option;
};

/// A sparse matrix by columns.
struct Columns {
  std::vector<int> starts = {0}, rows;
  std::vector<double> values;
  void add(int row, double value) {
    rows.push_back(row);
    values.push_back(value);
  }
  void end() { starts.push_back(int(rows.size())); }
};
} // namespace

static bool isDominated(const Item &item, size_t o) {
  const Option &a = item.options[o];
  for (auto [p, b] : llvm::enumerate(item.options)) {
    if (p == o || b.bytes > a.bytes || b.work > a.work || b.cost > a.cost)
      continue;
    if (p < o || b.bytes < a.bytes || b.work < a.work || b.cost < a.cost)
      return true;
  }
  return false;
}

Expected<Assignment> quern::quantize::integerProgram(ArrayRef<Item> items, Limits limits,
                                                     unsigned maxNodes) {
  Expected<Assignment> smallest = smallestAssignment(items, limits);
  if (!smallest)
    return smallest;
  if (items.empty())
    return smallest;
  Assignment best;
  bool any = false;
  if (Expected<Assignment> start = greedy(items, limits)) {
    best = std::move(*start);
    any = true;
  } else {
    llvm::consumeError(start.takeError());
  }
  // Costs of a typical assignment sum up to 1000, resources to their budget in thousandths.
  double scale = any && best.cost > 0 ? 1000 / best.cost : 1;
  std::vector<Variable> variables;
  std::vector<double> costs, lower, upper;
  Columns matrix;
  int rows = int(items.size());
  int bytesRow = limits.bytes != Limits::none ? rows++ : -1;
  int workRow = limits.work != Limits::none ? rows++ : -1;
  for (auto [i, item] : llvm::enumerate(items))
    for (auto [o, option] : llvm::enumerate(item.options)) {
      if (isDominated(item, o))
        continue;
      variables.push_back({uint32_t(i), uint32_t(o)});
      costs.push_back(option.cost * scale);
      matrix.add(int(i), 1);
      if (bytesRow >= 0)
        matrix.add(bytesRow, 1000 * double(option.bytes) / double(limits.bytes));
      if (workRow >= 0)
        matrix.add(workRow, 1000 * double(option.work) / double(limits.work));
      matrix.end();
    }
  lower.assign(items.size(), 1);
  upper.assign(items.size(), 1);
  lower.resize(size_t(rows), -1e30);
  upper.resize(size_t(rows), 1000);
  std::vector<double> zeros(variables.size(), 0), ones(variables.size(), 1);

  std::unique_ptr<Cbc_Model, void (*)(Cbc_Model *)> model(Cbc_newModel(), Cbc_deleteModel);
  Cbc_loadProblem(model.get(), int(variables.size()), rows, matrix.starts.data(),
                  matrix.rows.data(), matrix.values.data(), zeros.data(), ones.data(), costs.data(),
                  lower.data(), upper.data());
  for (int v = 0; v < int(variables.size()); ++v)
    Cbc_setInteger(model.get(), v);
  Cbc_setParameter(model.get(), "log", "0");
  Cbc_setParameter(model.get(), "maxNodes", std::to_string(maxNodes).c_str());
  Cbc_setParameter(model.get(), "ratioGap", "0");
  Cbc_setParameter(model.get(), "allowableGap", "1e-9");
  Cbc_solve(model.get());
  if (Cbc_isProvenInfeasible(model.get()) && !any)
    return createStringError("no assignment is within both budgets");
  if (const double *solution = Cbc_getColSolution(model.get())) {
    std::vector<uint32_t> choice = smallest->choice;
    std::vector<double> share(items.size(), 0);
    for (auto [v, variable] : llvm::enumerate(variables))
      if (solution[v] > share[variable.item]) {
        share[variable.item] = solution[v];
        choice[variable.item] = variable.option;
      }
    Assignment found = evaluate(items, std::move(choice));
    if (found.within(limits) && (!any || found.cost < best.cost)) {
      best = std::move(found);
      any = true;
    }
  }
  if (!any)
    return createStringError("no assignment within both budgets was found in " +
                             llvm::Twine(maxNodes) + " nodes");
  double bound = Cbc_getBestPossibleObjValue(model.get()) / scale;
  best.bound = std::isfinite(bound) ? std::clamp(bound, 0.0, best.cost) : -1;
  return best;
}

#else

Expected<Assignment> quern::quantize::integerProgram(ArrayRef<Item>, Limits, unsigned) {
  return createStringError("this build has no CBC (Debian: coinor-libcbc-dev)");
}

#endif
