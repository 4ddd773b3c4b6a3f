//===- Batch.h - Rows solved together ---------------------------*- C++ -*-===//
//
// What a change does to columns far from it is a product with rows of H. It is put off until a
// block of columns is done, and then made for all rows of the batch at once: H is read once for
// them, from the nearest cache, instead of once for each.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_SOLVER_BATCH_H
#define QUERN_LIB_QUANTIZE_SOLVER_BATCH_H

#include "Row.h"

namespace quern::quantize {

/// How the columns of a format are cut into blocks.
struct Blocks {
  /// Columns of a block. Tiles of levels are either inside one, or wide.
  int64_t width;
  /// Tiles of more columns are wide: their levels move by themselves.
  int64_t widest;
  /// Columns of each block, the most active first.
  std::vector<std::vector<int32_t>> columns;
  std::vector<int32_t> place; ///< of each column in the order of rounding

  Blocks(const format::Spec &spec, const Hessian &hessian);
};

/// The line of a method in the table of Solvers.cpp.
const SolverInfo &solverOf(Method method);

class Batch {
public:
  Batch(const format::Spec &spec, const CodeGrid &grid, const Hessian &hessian,
        const Blocks &blocks, int64_t rows);

  /// Solves rows [first, first + count) of the values, which `components` has rounded to nearest,
  /// there: begins with those, lets the solver move them, and keeps the better of each row.
  void solve(format::Components &components, llvm::ArrayRef<float> values, int64_t first,
             int64_t count, const SolveOptions &options);

  // The moves that solvers are made of (Solvers.cpp).

  /// Scales and offsets by weighted search; codes are left for the next step.
  void searchLevels();
  void roundNearest();
  /// Rounds column after column, each making up for the errors of those before it. `refit`: the
  /// levels of a tile are fitted again, to what its columns are to be by then, before the first of
  /// them is rounded.
  void roundWithFeedback(bool refit = false);
  /// Coordinate descent on levels and codes in turn; no row's error grows.
  void descend(unsigned sweeps);
  /// Notes the rows as they are now where they are better than ever before.
  void keepBetter();

private:
  float *ofRow(std::vector<float> &matrix, int64_t r) { return matrix.data() + r * n; }
  /// gradient = (w - w') H, from nothing.
  void findGradients();
  /// Fits tiles again whose first column in the order of rounding lies in [begin, end).
  void refitTiles(int64_t begin, int64_t end);
  /// d H d^T, by the gradient.
  double error(int64_t r);
  /// gradient += moved H over columns [begin, end), of moves at `count` columns from `first`.
  void spread(int64_t first, int64_t count, int64_t begin, int64_t end);
  void moveWideLevels(llvm::MutableArrayRef<double> fell);
  void moveBlock(size_t block, llvm::MutableArrayRef<double> fell);

  const Hessian &h;
  const Blocks &blocks;
  int64_t n, active = 0;
  std::vector<Row> rows;
  /// [rows][n]; `moved` is what rows have moved by, as factors of rows of H.
  std::vector<float> gradient, moved, scratch;
  std::vector<bool> done; ///< rows that descent leaves alone
  std::vector<Row::Choice> best;
  std::vector<double> least; ///< errors of those
};

} // namespace quern::quantize

#endif // QUERN_LIB_QUANTIZE_SOLVER_BATCH_H
