//===- Row.h - One row being solved -----------------------------*- C++ -*-===//
//
// The state of a row (codes, levels, what they decode to) and the moves that lower its error
// d H d^T, d = w - w'. Every move is checked before it is made, so the error never grows.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_SOLVER_ROW_H
#define QUERN_LIB_QUANTIZE_SOLVER_ROW_H

#include "Grid.h"
#include "quern/Quantize/Solver.h"

namespace quern::quantize {

class Row {
public:
  Row(const format::Spec &spec, const CodeGrid &grid, const Hessian &hessian);

  void load(const format::Components &components, int64_t row, const float *values);
  void store(format::Components &components, int64_t row) const;

  /// Codes and levels alone, to go back to.
  struct Choice {
    std::vector<uint32_t> codes;
    LevelRow scale, offset;
  };
  Choice choice() const { return {codes, scale, offset}; }
  void restore(const Choice &choice);

  /// d H d^T with the damped H.
  double error() const;

  /// Scales and offsets by weighted search; codes are left for the next step.
  void searchLevels();
  void roundNearest();
  /// Rounds column after column, each making up for the errors of those before it.
  void roundWithFeedback();

  /// Call before descend*: what the moves work on.
  void startDescent();
  /// One pass over codes (levels); whether anything changed.
  bool descendCodes();
  bool descendLevels();

  /// For the row's codes and levels, adds to the normal equations A e = b of a table's entries:
  /// `a` [entries][entries], `b` [entries].
  void addTableTerms(double *a, double *b);

private:
  float unit(int64_t k) const { return grid.value(codes[size_t(k)]) - zeroAt(k); }
  float scaleAt(int64_t k) const { return scaleOf[size_t(k)]; }
  float offsetAt(int64_t k) const { return offsetOf[size_t(k)]; }
  float zeroAt(int64_t k) const { return zeroOf[size_t(k)]; }
  /// What a code decodes to at column k.
  float decode(int64_t k, uint32_t code) const;
  uint32_t nearestCode(int64_t k, float target) const;
  void expandLevels();
  void fitTile(int64_t first, int64_t end, float &scale, float &scaleWeight, float &offset);
  void assignLevels(LevelRow &chain, llvm::ArrayRef<float> targets, llvm::ArrayRef<float> weights,
                    float largestCode);
  /// Tries new values for columns [first, end) (in `trial`); keeps them if that lowers the error.
  bool tryMove(int64_t first, int64_t end);
  bool descendLevel(LevelRow &chain, size_t l, bool isScale);
  bool descendPair(int64_t tile);

  const format::Spec &spec;
  const CodeGrid &grid;
  const Hessian &h;
  int64_t n;
  LevelRow scale, offset, zero;
  std::vector<float> w;                         ///< to be approached
  std::vector<uint32_t> codes;                  ///< indices into the grid
  std::vector<float> scaleOf, offsetOf, zeroOf; ///< products by column
  std::vector<float> decoded;                   ///< w'
  std::vector<float> gradient;                  ///< (w - w') H
  std::vector<float> trial, step, moved;        ///< scratch
};

} // namespace quern::quantize

#endif // QUERN_LIB_QUANTIZE_SOLVER_ROW_H
