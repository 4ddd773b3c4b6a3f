//===- Curvature.cpp - Traces and eigenvalues of Hessians -----------------===//
//
// Without gradients: the divergence from the model itself is 0 with zero slope where nothing was
// changed, so that KL(W + e v) + KL(W - e v) = e^2 v^T A v up to the fourth order, A its Hessian.
//
//===----------------------------------------------------------------------===//
#include "Providers.h"
#include "llvm/ADT/STLExtras.h"
#include <Eigen/Dense>
#include <cmath>
#include <random>

using namespace quern::quantize;
using llvm::ArrayRef;
using llvm::Expected;

Expected<double>
quern::quantize::hutchinsonTrace(size_t n,
                                 llvm::function_ref<Expected<double>(ArrayRef<float>)> form,
                                 unsigned most, double tolerance, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<float> signs(n);
  double sum = 0;
  for (unsigned probe = 1;; ++probe) {
    for (size_t i = 0; i < n; i += 64) {
      uint64_t bits = random();
      for (size_t j = i; j < std::min(n, i + 64); ++j)
        signs[j] = (bits >> (j - i)) & 1 ? 1.0f : -1.0f;
    }
    Expected<double> value = form(signs);
    if (!value)
      return value;
    double before = probe > 1 ? sum / (probe - 1) : 0;
    sum += *value;
    double now = sum / probe;
    if (probe >= most || (probe > 1 && std::fabs(now - before) < tolerance * std::fabs(now)))
      return now;
  }
}

double
quern::quantize::topEigenvalue(size_t n,
                               llvm::function_ref<std::vector<double>(ArrayRef<double>)> multiply,
                               double tolerance, uint64_t seed, unsigned mostSteps) {
  std::mt19937_64 random(seed);
  std::vector<double> v(n);
  for (double &x : v)
    x = double(int64_t(random() >> 11)) / double(int64_t(1) << 52) - 1;
  auto normalize = [](std::vector<double> &x) {
    double sum = 0;
    for (double y : x)
      sum += y * y;
    double norm = std::sqrt(sum);
    for (double &y : x)
      y = norm > 0 ? y / norm : 0;
    return norm;
  };
  normalize(v);
  double eigenvalue = 0;
  for (unsigned step = 0; step < mostSteps; ++step) {
    std::vector<double> next = multiply(v);
    double rayleigh = 0;
    for (size_t i = 0; i < n; ++i)
      rayleigh += next[i] * v[i];
    if (normalize(next) == 0)
      return 0;
    v = std::move(next);
    // The Rayleigh quotient converges twice as fast as the vector; a fifth leaves room.
    if (step > 0 && std::fabs(rayleigh - eigenvalue) < tolerance / 5 * std::fabs(rayleigh))
      return rayleigh;
    eigenvalue = rayleigh;
  }
  return eigenvalue;
}

/// Each choice's |dW|^2, each part's times the factor `of` gives for it.
static Losses timesSquares(const Subject &subject,
                           llvm::function_ref<Expected<double>(const Subject::Part &)> of) {
  std::vector<double> factors, out;
  for (const Subject::Part &part : subject.parts) {
    Expected<double> factor = of(part);
    if (!factor)
      return factor.takeError();
    factors.push_back(std::max(0.0, *factor));
  }
  for (size_t c = 0; c < subject.choices.size(); ++c) {
    Expected<std::vector<double>> squares = subject.squaredErrors(c);
    if (!squares)
      return squares.takeError();
    out.push_back(0);
    for (auto [factor, square] : llvm::zip_equal(factors, *squares))
      out.back() += factor * square;
  }
  return out;
}

Losses quern::quantize::hutchinsonLosses(const Subject &subject) {
  Values values = subject.values();
  if (!values)
    return values.takeError();
  Expected<std::vector<double>> typical = subject.squaredErrors(subject.typical);
  if (!typical)
    return typical.takeError();
  size_t n = values->size();
  double squares = 0;
  for (double square : *typical)
    squares += square;
  // Steps of the size that rounding makes: what lies beyond the quadratic counts as it will.
  double step = std::sqrt(squares / double(n));
  if (step == 0)
    return std::vector<double>(subject.choices.size());
  auto form = [&](ArrayRef<float> signs) -> Expected<double> {
    double sum = 0;
    for (float side : {1.0f, -1.0f}) {
      std::vector<float> moved = *values;
      for (size_t i = 0; i < n; ++i)
        moved[i] += side * float(step) * signs[i];
      Expected<double> divergence = subject.divergence(moved);
      if (!divergence)
        return divergence;
      sum += *divergence;
    }
    return sum / (step * step);
  };
  Expected<double> trace = hutchinsonTrace(n, form, 4, 0.05, subject.seed);
  if (!trace)
    return trace.takeError();
  // Half the mean curvature of a weight, times the squares.
  return timesSquares(subject, [&](const Subject::Part &) { return *trace / double(n) / 2; });
}

Losses quern::quantize::traceLosses(const Subject &subject) {
  return timesSquares(subject, [&](const Subject::Part &part) -> Expected<double> {
    if (!part.input || !part.input->rows)
      return part.weight;
    double trace = 0;
    for (int64_t k = 0; k < subject.columns; ++k)
      trace += part.input->meanSquare(k);
    return part.weight * trace / double(subject.columns);
  });
}

Losses quern::quantize::eigenvalueLosses(const Subject &subject) {
  return timesSquares(subject, [&](const Subject::Part &part) -> Expected<double> {
    Expected<Hessian> hessian = subject.hessian(part);
    if (!hessian)
      return hessian.takeError();
    using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    Eigen::Map<const Matrix> h(hessian->raw.data(), subject.columns, subject.columns);
    auto multiply = [&](ArrayRef<double> v) {
      std::vector<double> out(v.size());
      Eigen::Map<Eigen::VectorXd>(out.data(), long(out.size())) =
          h * Eigen::Map<const Eigen::VectorXd>(v.data(), long(v.size()));
      return out;
    };
    return part.weight * topEigenvalue(size_t(subject.columns), multiply, 0.01, subject.seed);
  });
}
