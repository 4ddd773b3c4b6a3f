//===- Solver.h - Rounding with a Hessian -----------------------*- C++ -*-===//
//
// Chooses codes and levels of a matrix W[N, K] in any scalar format so that the product with
// the inputs seen in calibration changes least: it minimises
//
//   tr((W - W') H (W - W')^T),   H[K, K] = E[x x^T],
//
// the mean squared error of the outputs, summed over the N of them. Rows are independent, so
// that results do not depend on the number of threads.
//
// Sources: error feedback: Frantar et al., GPTQ (2022), in the equivalent form of Chee et al.,
// QuIP (2023), which needs no inverse; coordinate descent: Behdin et al., QuantEase (2023).
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_QUANTIZE_SOLVER_H
#define QUERN_QUANTIZE_SOLVER_H

#include "quern/Format/Components.h"
#include <vector>

namespace quern::quantize {

/// How much H is damped unless another share is asked for (docs/Fidelity.md, Damping).
constexpr double defaultDamping = 0.2;

/// H made ready for the solver: damped, ordered, factored. Shared by all matrices that read the
/// same input and by all formats tried on them.
class Hessian {
public:
  /// `h`: K x K values, row-major, of which the lower triangle is read; `damping`: the share of its
  /// own that is added to each number of the diagonal (and a hundredth of that share of their mean).
  /// So correlations, which other text has others of, count 1 / (1 + damping) of what they did, in
  /// columns of any size: GPTQ's share of the mean is all that a layer with an outlier channel sees.
  /// Grows tenfold until the factorization succeeds. Fails for values that are not finite. An H of
  /// zeros counts as the identity.
  static llvm::Expected<Hessian> create(std::vector<double> h, int64_t columns, double damping);
  /// All columns count the same and do not depend on each other.
  static Hessian identity(int64_t columns);

  int64_t columns = 0;
  double damping = 0;        ///< the share that was needed
  std::vector<double> raw;   ///< [K][K], symmetric, as given
  std::vector<float> damped; ///< [K][K], symmetric
  /// Columns in the order in which they are rounded: the most active first.
  std::vector<int32_t> order;
  /// damped = F D F^T in that order, F unit upper triangular (row i: what the error of the i-th
  /// column adds to the targets of later ones).
  std::vector<float> feedback;
  std::vector<float> variance; ///< D, by column (not by place in the order)
};

enum class Method : uint8_t {
  Nearest,  ///< what format::encode does: H is not used
  Search,   ///< scales and offsets by weighted search, then the nearest codes
  Feedback, ///< the same, then codes with error feedback
  Descent,  ///< the same, then coordinate descent on levels and codes in turn
  NearestDescent, ///< descent from nearest codes
  SearchDescent,  ///< descent after search
};
class Batch;
struct SolveOptions;
struct SolverInfo {
  llvm::StringLiteral name, summary;
  Method method;
  /// Moves rows from where rounding to nearest put them; null: leaves them there.
  void (*run)(Batch &, const SolveOptions &);
};
llvm::ArrayRef<SolverInfo> solvers();
llvm::Expected<Method> parseMethod(llvm::StringRef name);
llvm::StringRef methodName(Method method);

struct SolveOptions {
  Method method = Method::Descent;
  unsigned sweeps = 8;  ///< of coordinate descent, at most
  unsigned threads = 0; ///< 0: all cores
  /// Of a column split: the columns of all sets but the last; empty: those of largest weights.
  llvm::ArrayRef<int32_t> leading = {};
};

struct Solution {
  format::Components components;
  double error = 0;        ///< tr(dW H dW^T) with H as given
  double nearestError = 0; ///< the same of rounding to nearest, where it began
};

/// Whether the solver can do more for a format than round to nearest: one of scalar codes
/// with levels.
bool isSolvable(const format::Spec &spec);

/// Solves for `rows` x hessian.columns values. No row ends with a greater error, by the damped H,
/// than it has when rounded to nearest, but that learned tables are fitted to all rows together, and
/// of a column split the matrix as a whole does not, by H as given. Formats that are not solvable are
/// rounded to nearest. `tensor` is for messages.
llvm::Expected<Solution> solve(const format::Spec &spec, llvm::ArrayRef<float> values, int64_t rows,
                               const Hessian &hessian, const SolveOptions &options,
                               llvm::StringRef tensor = "");

/// tr((W - W') H (W - W')^T) in f64; `h` is K x K, symmetric.
double weightedError(llvm::ArrayRef<float> values, llvm::ArrayRef<float> decoded, int64_t rows,
                     int64_t columns, llvm::ArrayRef<double> h);

} // namespace quern::quantize

#endif // QUERN_QUANTIZE_SOLVER_H
