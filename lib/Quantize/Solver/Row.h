//===- Row.h - One row being solved -----------------------------*- C++ -*-===//
//
// The state of a row (codes, levels, what they decode to) and the moves that lower its error
// d H d^T, d = w - w'. Every move is checked before it is made, so the error never grows.
//
// Moves see a range of columns: `gradient` is right there, and kept so. What a move does to other
// columns is left to the caller (Batch.h), who does it for many moves and rows at once.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_SOLVER_ROW_H
#define QUERN_LIB_QUANTIZE_SOLVER_ROW_H

#include "Grid.h"
#include "quern/Quantize/Solver.h"

namespace quern::quantize {

class Row {
public:
  /// `gradient` has a number for each column.
  Row(const format::Spec &spec, const CodeGrid &grid, const Hessian &hessian, float *gradient);

  void load(const format::Components &components, int64_t row, const float *values);
  void store(format::Components &components, int64_t row) const;

  /// Codes and levels alone, to go back to.
  struct Choice {
    std::vector<uint32_t> codes;
    LevelRow scale, offset;
  };
  Choice choice() const { return {codes, scale, offset}; }
  void restore(const Choice &choice);

  float valueAt(int64_t k) const { return w[size_t(k)]; }
  /// w - w'.
  float rest(int64_t k) const { return w[size_t(k)] - decoded[size_t(k)]; }
  float decodedAt(int64_t k) const { return decoded[size_t(k)]; }

  /// Whether the innermost levels can be fitted tile by tile.
  bool canFitTiles() const;
  /// Scales and offsets by weighted search; codes are left for the next step.
  void searchLevels();
  /// Those of one innermost tile once more, for the targets of its columns, under the outer levels as
  /// they are; kept where they round the targets better.
  void refitTile(int64_t tile, const float *targets);
  void roundNearest();
  /// Rounds column k for the target w + carried; returns w - w'.
  float roundColumn(int64_t k, float carried) {
    codes[size_t(k)] = nearestCode(k, w[size_t(k)] + carried);
    decoded[size_t(k)] = decode(k, codes[size_t(k)]);
    return rest(k);
  }

  /// A tile's levels are not moved for less than this: telling all columns takes longer than that
  /// is worth.
  void setLeastGain(double gain) { leastGain = gain; }
  /// The levels: scales, offsets.
  enum Chain { Scale, Offset };
  LevelRow &chain(Chain which) { return which == Scale ? scale : offset; }
  /// One pass over the codes of `columns`, all in [begin, end); returns by how much the error fell.
  double descendCodes(llvm::ArrayRef<int32_t> columns, int64_t begin, int64_t end);
  /// One pass over levels whose tiles are `widest` columns wide or less, in [begin, end).
  double descendLevels(int64_t begin, int64_t end, int64_t widest);

  /// What one unit of a level's number is worth at each column of its tile; false: it cannot move.
  bool direction(Chain which, size_t level, int64_t tile, float *step) const;
  /// Moves that number to where the error is least, if it is less there. `curvature`: that of
  /// `step`, from direction(). Only decoded values are changed.
  double moveAlong(Chain which, size_t level, int64_t tile, const float *step, double curvature);

  /// For the row's codes and levels, adds to the normal equations A e = b of a table's entries:
  /// `a` [entries][entries], `b` [entries].
  void addTableTerms(double *a, double *b);

private:
  float unit(int64_t k) const { return grid.value(codes[size_t(k)]) - zeroAt(k); }
  float scaleAt(int64_t k) const { return scaleOf[size_t(k)]; }
  float offsetAt(int64_t k) const { return offsetOf[size_t(k)]; }
  float zeroAt(int64_t k) const { return zeroOf[size_t(k)]; }
  float signOf(Chain which) const { return which == Offset && spec.offsetSign < 0 ? -1 : 1; }
  /// What a code decodes to at column k.
  float decode(int64_t k, uint32_t code) const;
  uint32_t nearestCode(int64_t k, float target) const;
  void expandLevels();
  void expandTile(int64_t tile); ///< an innermost one of scales, and of offsets
  /// The best scale and offset for the targets of columns [first, end); `scaleWeight`: how much a
  /// deviation from the scale costs.
  void fitTile(int64_t first, int64_t end, const float *targets, float &scale, float &scaleWeight,
               float &offset);
  /// Of targets of columns [first, end) rounded with the levels as they are.
  double roundingError(int64_t first, int64_t end, const float *targets) const;
  void assignLevels(LevelRow &chain, llvm::ArrayRef<float> targets, llvm::ArrayRef<float> weights,
                    float largestCode);
  double descendPair(int64_t tile, int64_t begin, int64_t end);
  double descendLevel(Chain which, size_t level, int64_t begin, int64_t end);
  /// Whether a change of the error by `quadratic` - 2 `linear` is worth a move of the levels of
  /// `tiles` innermost tiles.
  bool isWorth(double quadratic, double linear, double tiles = 1) const;
  /// Replaces the values of [first, last) by `trial` if that lowers the error, with the gradient of
  /// [begin, end).
  double tryMove(int64_t first, int64_t last, int64_t begin, int64_t end);

  const format::Spec &spec;
  const CodeGrid &grid;
  const Hessian &h;
  int64_t n;
  double leastGain = 0;
  LevelRow scale, offset, zero;
  float *gradient;                              ///< (w - w') H
  std::vector<float> w;                         ///< to be approached
  std::vector<uint32_t> codes;                  ///< indices into the grid
  std::vector<float> scaleOf, offsetOf, zeroOf; ///< products by column
  std::vector<float> decoded;                   ///< w'
  std::vector<float> trial, step, before, fitted; ///< scratch
};

} // namespace quern::quantize

#endif // QUERN_LIB_QUANTIZE_SOLVER_ROW_H
