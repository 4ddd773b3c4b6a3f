//===- Sensitivity.h - What a format would cost the model -------*- C++ -*-===//
//
// A provider says of one matrix how much each of its candidates is expected to worsen the model.
// Losses of different matrices are added up and compared, in whatever unit the provider counts.
// A provider is a function, in a file of lib/Quantize/Sensitivity, and a line in the table of
// Providers.cpp.
//
// Sources: Hutchinson's trace, power iteration: Dong et al., HAWQ (2019) and HAWQ-V2 (2020); column
// losses: BAQ (CSU-ModelCompression).
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_QUANTIZE_SENSITIVITY_H
#define QUERN_QUANTIZE_SENSITIVITY_H

#include "quern/Quantize/Solver.h"
#include "quern/Quantize/Statistics.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include <functional>

namespace quern::quantize {

using Values = llvm::Expected<std::vector<float>>;

/// What a provider may look at: a matrix W[rows, columns], row-major, and its candidates. Or a stack
/// of matrices of experts, one below the other.
struct Subject {
  std::string name;
  int64_t rows = 0, columns = 0;
  struct Part {
    const InputStatistics *input = nullptr; ///< what entered it; null: not seen in calibration
    double weight = 1;                      ///< how often its error counts
  };
  std::vector<Part> parts = {{}}; ///< the matrix, or those of the stack
  /// The matrices of a stack, by what enters each, if every token goes to `chosen` of its experts.
  static std::vector<Part> partsOf(llvm::ArrayRef<const InputStatistics *> inputs, double chosen);
  double damping = defaultDamping;
  uint64_t seed = 1;              ///< of random probes
  std::function<Values()> values; ///< W
  struct Choice {
    std::string format;
    double bits = 0;  ///< stored bits a weight
    double error = 0; ///< tr(dW H dW^T)
    std::function<Values()> values;
  };
  std::vector<Choice> choices;
  size_t typical = 0; ///< the choice closest to the bits of the budget
  /// Mean KL divergence of the float program on calibration windows when W has these values.
  std::function<llvm::Expected<double>(llvm::ArrayRef<float>)> divergence;

  /// H of a part, ready for the solver; the identity where nothing was seen.
  llvm::Expected<Hessian> hessian(const Part &part) const;
  /// The sums of (W' - W)^2 of a choice, by part.
  llvm::Expected<std::vector<double>> squaredErrors(size_t choice) const;
};

/// The expected loss of each choice, not negative.
using Losses = llvm::Expected<std::vector<double>>;
struct ProviderInfo {
  llvm::StringLiteral name, summary;
  bool runs; ///< asks for divergences
  Losses (*run)(const Subject &);
};
llvm::ArrayRef<ProviderInfo> providers();
llvm::Expected<const ProviderInfo *> parseProvider(llvm::StringRef name);

/// Estimates tr(A) of a symmetric n x n matrix from v^T A v over random signs v: the mean over
/// probes, until a new one changes it by less than `tolerance` of itself, or `most` were drawn.
llvm::Expected<double>
hutchinsonTrace(size_t n, llvm::function_ref<llvm::Expected<double>(llvm::ArrayRef<float>)> form,
                unsigned most, double tolerance, uint64_t seed);

/// The eigenvalue of largest magnitude, by power iteration, until it changes by less than
/// `tolerance` of itself; `multiply` maps v to A v.
double topEigenvalue(size_t n,
                     llvm::function_ref<std::vector<double>(llvm::ArrayRef<double>)> multiply,
                     double tolerance, uint64_t seed, unsigned mostSteps = 1000);

/// Error feedback (GPTQ) with a number of levels for every column, on the grid of each row's range:
/// column j of row n steps by (max_n - min_n) / (levels_j - 1). One level: the middle of the range.
struct ColumnSolution {
  std::vector<float> decoded; ///< [rows][columns]
  /// By column: half the squared rounding error times the variance of the input that earlier
  /// columns do not explain. They sum up to half of `error`.
  std::vector<double> losses;
  double error = 0; ///< tr(dW H dW^T) with the damped H
};
ColumnSolution roundColumns(llvm::ArrayRef<float> values, int64_t rows, const Hessian &hessian,
                            llvm::ArrayRef<unsigned> levels);
/// Levels that make the columns' losses equal, with log2(levels) of `meanBits` in the mean: losses
/// go with (levels - 1)^-2, `losses` being those at `levels` levels for all.
std::vector<unsigned> equalizeColumns(llvm::ArrayRef<double> losses, unsigned levels,
                                      double meanBits);

/// Spearman's: the correlation of ranks, equal values sharing their mean rank. 0 where one side is
/// constant.
double rankCorrelation(llvm::ArrayRef<double> a, llvm::ArrayRef<double> b);

} // namespace quern::quantize

#endif // QUERN_QUANTIZE_SENSITIVITY_H
