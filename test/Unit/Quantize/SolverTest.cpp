//===- SolverTest.cpp - The solver against naive references ---------------===//
#include "quern/Quantize/Solver.h"
#include "quern/Format/Encode.h"
#include "quern/Format/Known.h"
#include "llvm/ADT/STLExtras.h"
#include <cmath>
#include <gtest/gtest.h>
#include <random>

using namespace quern;
using namespace quern::quantize;

namespace {
/// E[x x^T] of inputs whose columns depend on each other and differ in size.
std::vector<double> randomHessian(int64_t columns, int64_t samples, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  int64_t hidden = std::max<int64_t>(columns / 4, 1);
  std::vector<double> mix(size_t(columns * hidden)), h(size_t(columns * columns));
  for (double &m : mix)
    m = normal(random);
  std::vector<double> x(size_t(columns), 0.0), z(size_t(hidden), 0.0);
  for (int64_t t = 0; t < samples; ++t) {
    for (double &v : z)
      v = normal(random);
    for (int64_t k = 0; k < columns; ++k) {
      x[size_t(k)] = 0.3 * normal(random);
      for (int64_t j = 0; j < hidden; ++j)
        x[size_t(k)] += mix[size_t(k * hidden + j)] * z[size_t(j)];
      x[size_t(k)] *= 1 + double(k % 7);
    }
    for (int64_t i = 0; i < columns; ++i)
      for (int64_t j = 0; j < columns; ++j)
        h[size_t(i * columns + j)] += x[size_t(i)] * x[size_t(j)] / double(samples);
  }
  return h;
}

std::vector<float> randomWeights(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.05f);
  std::vector<float> w(size_t(count), 0.0f);
  for (float &v : w)
    v = normal(random);
  return w;
}

Hessian prepare(llvm::ArrayRef<double> h, int64_t columns, double damping = 0.01) {
  return llvm::cantFail(Hessian::create(h, columns, damping));
}

std::vector<float> decoded(const format::Spec &spec, const format::Components &c) {
  std::vector<float> out(size_t(c.rows * c.cols), 0.0f);
  llvm::cantFail(format::decode(spec, c, out));
  return out;
}
} // namespace

TEST(Hessian, FactorsTheDampedMatrix) {
  for (int64_t n : {1, 2, 33, 96}) {
    std::vector<double> h = randomHessian(n, 3 * n, 7);
    Hessian hessian = prepare(h, n);
    double mean = 0;
    for (int64_t i = 0; i < n; ++i)
      mean += h[size_t(i * n + i)] / double(n);
    // F D F^T, entry by entry, in the order of rounding.
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (int64_t k = std::max(i, j); k < n; ++k)
          sum += double(hessian.feedback[size_t(i * n + k)]) *
                 double(hessian.variance[size_t(hessian.order[size_t(k)])]) *
                 double(hessian.feedback[size_t(j * n + k)]);
        int64_t a = hessian.order[size_t(i)], b = hessian.order[size_t(j)];
        EXPECT_NEAR(sum, h[size_t(a * n + b)] + (a == b ? 0.01 * (h[size_t(a * n + a)] + 0.01 * mean) : 0), 1e-5 * mean);
        EXPECT_EQ(hessian.damped[size_t(a * n + b)], hessian.damped[size_t(b * n + a)]);
      }
    for (int64_t i = 0; i + 1 < n; ++i)
      EXPECT_GE(h[size_t(hessian.order[size_t(i)] * (n + 1))],
                h[size_t(hessian.order[size_t(i + 1)] * (n + 1))]);
  }
}

TEST(Hessian, DampingGrowsUntilItSucceeds) {
  // Not positive: (1, -1) gets -2.
  std::vector<double> h = {1, 0, 3, 1};
  Hessian hessian = prepare(h, 2, 0.01);
  EXPECT_GE(hessian.damping, 1);
  // Rank one and undamped: a little is needed.
  std::vector<double> one(64 * 64, 1.0);
  EXPECT_GT(prepare(one, 64, 0).damping, 0);
  std::vector<double> zeros(16, 0.0);
  EXPECT_EQ(prepare(zeros, 4, 0).raw,
            prepare(std::vector<double>{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}, 4, 0).raw);
  std::vector<double> bad(4, NAN);
  auto failed = Hessian::create(bad, 2, 0.01);
  EXPECT_EQ(llvm::toString(failed.takeError()),
            "the Hessian holds a number that is not finite at (0, 0)");
}

// Feedback gives columns of zeros something to hold: the errors of others, for which their scales
// have to be fitted when that is known.
TEST(Solver, FeedbackFitsScalesAgain) {
  int64_t columns = 128, rows = 4;
  std::vector<double> h(size_t(columns * columns), 0.0);
  for (int64_t k = 0; k < columns; ++k)
    h[size_t(k * columns + k)] = 1;
  for (int64_t k = 0; k < columns / 2; ++k)
    h[size_t((k + columns / 2) * columns + k)] = 0.99;
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> w(size_t(rows * columns), 0.0f);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t k = 0; k < columns / 2; ++k)
      w[size_t(r * columns + k)] = normal(random);
  format::Spec spec = llvm::cantFail(format::parse("i4, scale f16[1x32]"));
  Solution found = llvm::cantFail(
      solve(spec, w, rows, prepare(h, columns), SolveOptions{Method::Feedback, 0, 1, {}}));
  EXPECT_LT(found.error, 0.1 * found.nearestError);
}

TEST(Solver, ErrorIsThatOfTheOutputs) {
  int64_t rows = 3, columns = 32, samples = 50;
  std::mt19937 random(5);
  std::normal_distribution<double> normal;
  std::vector<double> x(size_t(samples * columns)), h(size_t(columns * columns));
  for (double &v : x)
    v = normal(random);
  for (int64_t t = 0; t < samples; ++t)
    for (int64_t i = 0; i < columns; ++i)
      for (int64_t j = 0; j < columns; ++j)
        h[size_t(i * columns + j)] +=
            x[size_t(t * columns + i)] * x[size_t(t * columns + j)] / double(samples);
  std::vector<float> w = randomWeights(rows * columns, 1), v = randomWeights(rows * columns, 2);
  double expected = 0;
  for (int64_t t = 0; t < samples; ++t)
    for (int64_t r = 0; r < rows; ++r) {
      double y = 0;
      for (int64_t k = 0; k < columns; ++k)
        y += x[size_t(t * columns + k)] *
             (double(w[size_t(r * columns + k)]) - double(v[size_t(r * columns + k)]));
      expected += y * y / double(samples);
    }
  EXPECT_NEAR(weightedError(w, v, rows, columns, h), expected, 1e-12);
}

/// Feedback as GPTQ states it, with the inverse of H and no shortcuts, on a plain integer grid.
static std::vector<float> naiveFeedback(const Hessian &hessian, std::vector<double> w,
                                        const std::vector<float> &scale, float low, float high) {
  int64_t n = hessian.columns;
  std::vector<double> inverse(size_t(n * n)), a(size_t(n * n));
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j)
      a[size_t(i * n + j)] =
          double(hessian.damped[size_t(hessian.order[size_t(i)] * n + hessian.order[size_t(j)])]);
  std::vector<float> out(size_t(n), 0.0f);
  // After i columns are fixed, the best answer of the others uses the inverse of what is left of H.
  for (int64_t first = 0; first < n; ++first) {
    int64_t m = n - first;
    std::vector<double> work(size_t(m * 2 * m), 0.0);
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < m; ++j)
        work[size_t(i * 2 * m + j)] = a[size_t((first + i) * n + first + j)];
      work[size_t(i * 2 * m + m + i)] = 1;
    }
    for (int64_t p = 0; p < m; ++p) { // Gauss-Jordan; H is positive definite
      double pivot = work[size_t(p * 2 * m + p)];
      for (int64_t j = 0; j < 2 * m; ++j)
        work[size_t(p * 2 * m + j)] /= pivot;
      for (int64_t i = 0; i < m; ++i)
        if (double factor = work[size_t(i * 2 * m + p)]; i != p && factor != 0)
          for (int64_t j = 0; j < 2 * m; ++j)
            work[size_t(i * 2 * m + j)] -= factor * work[size_t(p * 2 * m + j)];
    }
    int64_t k = hessian.order[size_t(first)];
    double q = std::min<double>(
        std::max<double>(std::floor(w[size_t(k)] / double(scale[size_t(k)]) + 0.5), low), high);
    out[size_t(k)] = float(q) * scale[size_t(k)];
    double error = (w[size_t(k)] - double(out[size_t(k)])) / work[size_t(m)];
    for (int64_t j = 1; j < m; ++j)
      w[size_t(hessian.order[size_t(first + j)])] -= error * work[size_t(m + j)];
  }
  return out;
}

static void expectTextbook(int64_t columns, unsigned rows) {
  auto spec = llvm::cantFail(format::parse("i4, scale f32[1x" + std::to_string(columns) + "]"));
  Hessian hessian = prepare(randomHessian(columns, 200, 3), columns);
  unsigned differences = 0;
  for (unsigned seed = 0; seed < rows; ++seed) {
    std::vector<float> w = randomWeights(columns, seed);
    auto solution = llvm::cantFail(solve(spec, w, 1, hessian, {Method::Feedback, 0, 1}));
    std::vector<float> got = decoded(spec, solution.components);
    float scale;
    std::memcpy(&scale, solution.components.scale[0].bytes.data(), 4);
    std::vector<float> scales(size_t(columns), scale);
    std::vector<float> expected = naiveFeedback(hessian, {w.begin(), w.end()}, scales, -8, 7);
    // Either this row kept its feedback, or nearest was better than that.
    double theirs = weightedError(w, expected, 1, columns, hessian.raw);
    EXPECT_LE(solution.error, theirs * 1.02);
    differences += got != expected;
  }
  EXPECT_LE(differences, rows / 5); // ties in f32
}

TEST(Solver, FeedbackEqualsTheTextbook) { expectTextbook(32, 20); }

/// Errors are fed to later columns of a block one by one, to all others at the end of the block.
TEST(Solver, FeedbackReachesLaterBlocks) { expectTextbook(96, 5); }

TEST(Solver, EachMethodBeatsTheOneBefore) {
  int64_t rows = 24, columns = 256;
  std::vector<double> h = randomHessian(columns, 1000, 11);
  Hessian hessian = prepare(h, columns, 1e-3);
  std::vector<float> w = randomWeights(rows * columns, 12);
  for (const char *name : {"q2_K", "q3_K", "q4_K", "q5_K", "q6_K", "q4_0", "q4_1", "q5_0", "q5_1",
                           "q8_0", "iq4_nl", "iq4_xs", "nf4", "mxfp4"}) {
    const format::Spec *spec = format::knownSpec(name);
    ASSERT_TRUE(spec) << name;
    double last = INFINITY;
    for (Method method : {Method::Nearest, Method::Feedback, Method::Descent}) {
      auto solution = llvm::cantFail(solve(*spec, w, rows, hessian, {method, 8, 2}));
      // The reported error is that of what the components decode to.
      EXPECT_NEAR(solution.error,
                  weightedError(w, decoded(*spec, solution.components), rows, columns, h),
                  1e-9 * solution.nearestError)
          << name;
      EXPECT_LT(solution.error, last * (method == Method::Nearest ? 1.0 : 0.95)) << name;
      last = solution.error;
      llvm::cantFail(format::verify(*spec, solution.components));
    }
  }
}

TEST(Solver, DescentFollowsAnything) {
  int64_t rows = 16, columns = 256;
  Hessian hessian = prepare(randomHessian(columns, 1000, 11), columns, 1e-3);
  std::vector<float> w = randomWeights(rows * columns, 12);
  for (const char *name : {"q3_K", "q4_0", "iq4_xs", "q4_1"}) {
    auto errorOf = [&](Method method) {
      return llvm::cantFail(solve(*format::knownSpec(name), w, rows, hessian, {method, 8, 2}))
          .error;
    };
    EXPECT_LT(errorOf(Method::NearestDescent), 0.8 * errorOf(Method::Nearest)) << name;
    EXPECT_LT(errorOf(Method::SearchDescent), 0.8 * errorOf(Method::Search)) << name;
  }
}

TEST(Solver, DoesNotDependOnThreads) {
  int64_t rows = 50, columns = 64;
  Hessian hessian = prepare(randomHessian(columns, 300, 21), columns);
  std::vector<float> w = randomWeights(rows * columns, 22);
  const format::Spec *spec = format::knownSpec("q4_1");
  auto one = llvm::cantFail(solve(*spec, w, rows, hessian, {Method::Descent, 8, 1}));
  auto many = llvm::cantFail(solve(*spec, w, rows, hessian, {Method::Descent, 8, 5}));
  EXPECT_TRUE(one.components == many.components);
  EXPECT_EQ(one.error, many.error);
}

TEST(Solver, NeverWorseThanNearestInAnyRow) {
  // Hardly any data: feedback overfits, and the damped error still may not grow.
  int64_t rows = 40, columns = 64;
  std::vector<double> h = randomHessian(columns, 3, 31);
  Hessian hessian = prepare(h, columns, 0.5);
  std::vector<double> damped(hessian.damped.begin(), hessian.damped.end());
  std::vector<float> w = randomWeights(rows * columns, 32);
  for (const char *text : {"i4, scale f16[1x32]", "ui3, scale f16[1x64], zero ui3[1x64]",
                           "i8, scale f32[1x*]", "i4, scale f32[*x*]", "ternary, scale f16[1x32]",
                           "f4E2M1FN, scale f8E4M3FN[1x16]", "i4, scale f16[2x32]"}) {
    auto spec = llvm::cantFail(format::parse(text));
    auto nearest = llvm::cantFail(solve(spec, w, rows, hessian, {Method::Nearest, 8, 1}));
    std::vector<float> a = decoded(spec, nearest.components);
    for (const SolverInfo &solver : solvers()) {
      auto solved = llvm::cantFail(solve(spec, w, rows, hessian, {solver.method, 8, 1}));
      std::vector<float> b = decoded(spec, solved.components);
      for (int64_t r = 0; r < rows; ++r) {
        auto row = [&](const std::vector<float> &m) {
          return llvm::ArrayRef(m).slice(size_t(r * columns), size_t(columns));
        };
        EXPECT_LE(weightedError(row(w), row(b), 1, columns, damped),
                  weightedError(row(w), row(a), 1, columns, damped) * (1 + 1e-6))
            << solver.name.str() << " " << text << " row " << r;
      }
    }
  }
}

TEST(Solver, OddShapes) {
  // Rows of zeros, a dead column, one row, a width that blocks do not divide.
  int64_t columns = 40;
  std::vector<double> h = randomHessian(columns, 100, 41);
  for (int64_t i = 0; i < columns; ++i)
    h[size_t(i * columns + 5)] = h[size_t(5 * columns + i)] = 0;
  Hessian hessian = prepare(h, columns, 0);
  EXPECT_GT(hessian.damping, 0);
  const format::Spec *spec = format::knownSpec("q4_0");
  std::vector<float> zeros(size_t(columns), 0.0f);
  auto none = llvm::cantFail(solve(*spec, zeros, 1, hessian, {}));
  EXPECT_EQ(none.error, 0);
  auto empty = llvm::cantFail(solve(*spec, {}, 0, hessian, {}));
  EXPECT_EQ(empty.components.rows, 0);
  std::vector<float> w = randomWeights(columns, 42);
  auto solved = llvm::cantFail(solve(*spec, w, 1, hessian, {}));
  EXPECT_LT(solved.error, solved.nearestError);
  auto wrong = solve(*spec, w, 2, hessian, {}, "blk.0.w");
  EXPECT_EQ(llvm::toString(wrong.takeError()),
            "tensor 'blk.0.w': expected rows of 40 values for its statistics, found 40 values in 2 "
            "rows");
}

TEST(Solver, UnsignedInnerScalesServeLopsidedCodes) {
  // Codes from -8 to 7: the solver must not ask neighbouring groups for scales of either sign.
  int64_t rows = 16, columns = 256;
  Hessian hessian = prepare(randomHessian(columns, 1000, 11), columns, 1e-3);
  std::vector<float> w = randomWeights(rows * columns, 12);
  auto errorOf = [&](const char *text) {
    auto spec = llvm::cantFail(format::parse(text));
    return llvm::cantFail(solve(spec, w, rows, hessian, {Method::Descent, 8, 2})).error;
  };
  EXPECT_LT(errorOf("i4, scale f16[1x256] * ui6[1x32]"),
            1.3 * errorOf("i4, scale f16[1x256] * i6[1x32]"));
}

TEST(Solver, LearnedTablesSuitTheHessian) {
  // Fitted to codes and H, a table beats k-means of the values; the same for any number of threads.
  int64_t rows = 48, columns = 128;
  Hessian hessian = prepare(randomHessian(columns, 300, 51), columns, 1e-3);
  std::vector<float> w = randomWeights(rows * columns, 52);
  for (float &v : w)
    v = v * v * v; // far from what even steps suit
  auto learned = llvm::cantFail(format::parse("table<1, 3 bit, f16>, scale f16[1x32]"));
  auto even = llvm::cantFail(format::parse("i3, scale f16[1x32]"));
  auto solved = llvm::cantFail(solve(learned, w, rows, hessian, {Method::Descent, 8, 1}));
  auto again = llvm::cantFail(solve(learned, w, rows, hessian, {Method::Descent, 8, 3}));
  auto nearest = llvm::cantFail(solve(learned, w, rows, hessian, {Method::Nearest, 8, 1}));
  EXPECT_EQ(solved.components, again.components);
  EXPECT_NE(solved.components.table, nearest.components.table);
  EXPECT_LT(solved.error, 0.8 * nearest.error);
  EXPECT_LT(solved.error,
            llvm::cantFail(solve(even, w, rows, hessian, {Method::Descent, 8, 1})).error);
  EXPECT_NEAR(solved.error,
              weightedError(w, decoded(learned, solved.components), rows, columns, hessian.raw),
              1e-9 * solved.error);
}

/// Two quantizers: where the leading columns keep floats, they sit where the error of the others
/// leaves least, (E H)_A = 0; and that beats solving the others alone.
TEST(Solver, SplitFeedsErrorsIntoItsLeadingColumns) {
  constexpr int64_t rows = 24, columns = 96;
  std::vector<double> h = randomHessian(columns, 4 * columns, 21);
  std::vector<float> w = randomWeights(rows * columns, 22);
  Hessian hessian = prepare(h, columns, 1e-6);
  std::vector<int32_t> leading;
  for (int32_t i = 0; i < 32; ++i)
    leading.push_back(3 * i);
  for (const char *outliers : {"f32", "f16"}) {
    format::Spec spec = llvm::cantFail(
        format::parse(std::string("split<a 32: ") + outliers + ", b: i4, scale f32[1x*]>"));
    SolveOptions options;
    options.threads = 1;
    options.leading = leading;
    Solution solved = llvm::cantFail(solve(spec, w, rows, hessian, options));
    options.method = Method::Nearest;
    Solution nearest = llvm::cantFail(solve(spec, w, rows, hessian, options));
    EXPECT_EQ(nearest.error, solved.nearestError);
    EXPECT_LT(solved.error, 0.5 * nearest.error);
    std::vector<float> found = decoded(spec, solved.components);
    EXPECT_NEAR(weightedError(w, found, rows, columns, h), solved.error, 1e-6 * solved.error);
    for (int64_t r = 0; r < rows; ++r)
      for (int32_t a : leading) {
        double slope = 0, magnitude = 0;
        for (int64_t k = 0; k < columns; ++k) {
          double term = (double(w[size_t(r * columns + k)]) - found[size_t(r * columns + k)]) *
                        h[size_t(k * columns + a)];
          slope += term;
          magnitude += std::fabs(term);
        }
        EXPECT_LT(std::fabs(slope), (outliers[1] == '3' ? 1e-3 : 0.1) * magnitude + 1e-9);
      }
    // The others alone, by the solver for one quantizer.
    std::vector<double> part;
    std::vector<float> rest;
    std::vector<int64_t> others;
    for (int64_t k = 0; k < columns; ++k)
      if (!llvm::is_contained(leading, int32_t(k)))
        others.push_back(k);
    for (int64_t i : others)
      for (int64_t j : others)
        part.push_back(h[size_t(i * columns + j)]);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t k : others)
        rest.push_back(w[size_t(r * columns + k)]);
    Solution alone = llvm::cantFail(
        solve(spec.terms[1], rest, rows, prepare(part, int64_t(others.size())), SolveOptions()));
    EXPECT_LT(solved.error, 0.9 * alone.error);
  }
}
