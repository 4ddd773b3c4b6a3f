//===- Solvers.cpp - The solvers: what each does to a batch of rows --------===//
//
// A solver is a line of the table below and a function that moves rows (Batch.h) from where rounding
// to nearest has put them. Whatever it does, each row ends with the best that it has been.
// docs/Quantizing.md says how to add one.
//
//===----------------------------------------------------------------------===//
#include "Batch.h"

using namespace quern;
using namespace quern::quantize;

static void search(Batch &rows, const SolveOptions &) {
  rows.searchLevels();
  rows.roundNearest();
}

static void feedback(Batch &rows, const SolveOptions &) {
  rows.searchLevels();
  rows.roundWithFeedback(/*refit=*/true);
}

static void descent(Batch &rows, const SolveOptions &options) {
  feedback(rows, options);
  rows.keepBetter();
  rows.descend(options.sweeps);
  rows.keepBetter();
  // The levels have moved since the codes were fed back; once more with the new ones.
  rows.roundWithFeedback();
  rows.descend(options.sweeps);
}

static void nearestDescent(Batch &rows, const SolveOptions &options) {
  rows.descend(options.sweeps);
}

static void searchDescent(Batch &rows, const SolveOptions &options) {
  search(rows, options);
  rows.keepBetter();
  rows.descend(options.sweeps);
}

static constexpr SolverInfo table[] = {
    {"nearest", "the nearest code to each weight; no statistics count", Method::Nearest, nullptr},
    {"search", "scales and offsets by weighted search, then the nearest codes", Method::Search,
     search},
    {"feedback", "the same scales, fitted again as codes are rounded with error feedback (GPTQ)", Method::Feedback,
     feedback},
    {"descent", "the same, then coordinate descent on scales and codes in turn", Method::Descent,
     descent},
    {"nearest-descent", "that descent from the nearest codes", Method::NearestDescent,
     nearestDescent},
    {"search-descent", "that descent after search", Method::SearchDescent, searchDescent},
};

llvm::ArrayRef<SolverInfo> quern::quantize::solvers() { return table; }

const SolverInfo &quern::quantize::solverOf(Method method) {
  return *llvm::find_if(table, [&](const SolverInfo &solver) { return solver.method == method; });
}
