//===- RoundingError.h - What rounding costs behind scales ------*- C++ -*-===//
//
// The mean squared error of the results of the products that read one input, once its channels
// are scaled and weights, and perhaps activations, are rounded. Private to the folder.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_MIGRATE_ROUNDINGERROR_H
#define QUERN_LIB_QUANTIZE_MIGRATE_ROUNDINGERROR_H

#include "Scaling.h"
#include "quern/Format/Spec.h"
#include <Eigen/Core>

namespace quern::migrate {

/// What is rounded, and how much of it is looked at.
struct Rounding {
  format::Spec weights;
  int largestCode = 0; ///< of activations, with one scale a token; 0: they are not rounded
  int64_t rows = 256;  ///< evenly spaced rows of each matrix that are rounded to try scales

  /// From options of a pass: a format as quern.format spells it; `f32`, `int8` or `int4`.
  static llvm::Expected<Rounding> parse(llvm::StringRef format, llvm::StringRef activations,
                                        unsigned rows);
};

/// Of weights: tr(D H Dᵀ), D = Q(W diag(s)) diag(s)^-1 - W, H the mean of x xᵀ, Q rounding to
/// nearest. Of activations: each of the K codes of a token is off by a twelfth of its step
/// squared, the step being the token's largest |x / s| over its largest code. Of that largest only what the
/// statistics hold is known: the mean of its square is at most the root of sum_k E x_k^4 / s_k^4,
/// and at most the largest ever seen.
class RoundingError {
public:
  static llvm::Expected<RoundingError> create(const SiteData &at, const Rounding &rounding);
  /// With these free scales; empty: none.
  llvm::Expected<double> with(llvm::ArrayRef<double> scales) const;

private:
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  /// Some rows of one matrix.
  struct Sample {
    Matrix values;
    double weight = 0; ///< rows of the matrix that each stands for
  };
  explicit RoundingError(const SiteData &at, const Rounding &rounding)
      : site(at.site), input(at.input), rounding(rounding) {}

  const ScaleSite &site;
  const quantize::InputStatistics &input;
  const Rounding &rounding;
  Matrix hessian;
  std::vector<Sample> samples;
};

} // namespace quern::migrate

#endif // QUERN_LIB_QUANTIZE_MIGRATE_ROUNDINGERROR_H
