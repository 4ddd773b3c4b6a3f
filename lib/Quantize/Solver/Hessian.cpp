//===- Hessian.cpp - Damps, orders and factors H --------------------------===//
//
// F D F^T with F upper triangular is the Cholesky factorization with columns reversed.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Solver.h"
#include "llvm/ADT/STLExtras.h"
#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <numeric>

using namespace quern::quantize;
using llvm::createStringError;
using llvm::Expected;

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Columns without activations are damped, too: as if each had this share of the mean diagonal.
static constexpr double floorOfMean = 0.01;

/// Fills order, feedback and variance, for `shift` added to the diagonal; false if H is not
/// positive definite. Holds one more copy of H, no more.
static bool factor(Hessian &out, llvm::ArrayRef<double> shift) {
  int64_t n = out.columns;
  auto damped = [&](int64_t i, int64_t j) {
    return out.raw[size_t(i * n + j)] + (i == j ? shift[size_t(i)] : 0);
  };
  out.order.resize(size_t(n));
  std::iota(out.order.begin(), out.order.end(), 0);
  llvm::sort(out.order, [&](int32_t a, int32_t b) {
    return damped(a, a) != damped(b, b) ? damped(a, a) > damped(b, b) : a < b;
  });
  // Reversed: the last column in the order comes first, and L becomes F mirrored.
  Matrix lower(n, n);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j)
      lower(i, j) = damped(out.order[n - 1 - i], out.order[n - 1 - j]);
  Eigen::LLT<Eigen::Ref<Matrix>> cholesky(lower); // in place
  if (cholesky.info() != Eigen::Success)
    return false;
  out.feedback.assign(size_t(n * n), 0);
  out.variance.assign(size_t(n), 0);
  for (int64_t j = 0; j < n; ++j) {
    double diagonal = lower(n - 1 - j, n - 1 - j);
    if (!(diagonal > 0) || !std::isfinite(diagonal))
      return false;
    out.variance[size_t(out.order[j])] = float(diagonal * diagonal);
    for (int64_t i = 0; i <= j; ++i)
      out.feedback[size_t(i * n + j)] = float(lower(n - 1 - i, n - 1 - j) / diagonal);
  }
  return true;
}

Expected<Hessian> Hessian::create(std::vector<double> h, int64_t columns, double damping) {
  Hessian out;
  out.columns = columns;
  out.raw = std::move(h);
  int64_t n = columns;
  double trace = 0;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j <= i; ++j) {
      double v = out.raw[size_t(i * n + j)];
      if (!std::isfinite(v))
        return createStringError("the Hessian holds a number that is not finite at (" +
                                 llvm::Twine(i) + ", " + llvm::Twine(j) + ")");
      out.raw[size_t(j * n + i)] = v;
      if (i == j && v < 0)
        return createStringError("the Hessian's diagonal is negative in column " + llvm::Twine(i));
      trace += i == j ? v : 0;
    }
  if (trace == 0)
    for (int64_t i = 0; i < n; ++i)
      out.raw[size_t(i * n + i)] = 1;
  double mean = trace == 0 ? 1 : trace / double(std::max<int64_t>(n, 1));
  for (out.damping = damping;; out.damping = std::max(out.damping * 10, 1e-8)) {
    std::vector<double> shift;
    for (int64_t i = 0; i < n; ++i)
      shift.push_back(out.damping * (out.raw[size_t(i * n + i)] + floorOfMean * mean));
    if (factor(out, shift)) {
      out.damped.assign(out.raw.begin(), out.raw.end());
      for (int64_t i = 0; i < n; ++i)
        out.damped[size_t(i * n + i)] = float(out.raw[size_t(i * n + i)] + shift[size_t(i)]);
      return out;
    }
    if (out.damping > 1e6)
      return createStringError("the Hessian cannot be factored: it is not a sum of squares");
  }
}

Hessian Hessian::identity(int64_t columns) {
  std::vector<double> h(size_t(columns * columns));
  for (int64_t i = 0; i < columns; ++i)
    h[size_t(i * columns + i)] = 1;
  return llvm::cantFail(create(std::move(h), columns, 0));
}
