//===- SensitivityTest.cpp - Estimators against what is known exactly -----===//
#include "quern/Quantize/Sensitivity.h"
#include <Eigen/Dense>
#include <cmath>
#include <gtest/gtest.h>
#include <random>

using namespace quern::quantize;
using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// A sum of squares with eigenvalues spread over two decades.
static Matrix randomHessian(unsigned n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  Matrix x(4 * n, n);
  for (double &v : x.reshaped())
    v = normal(random);
  for (unsigned j = 0; j < n; ++j)
    x.col(j) *= std::exp(normal(random));
  return x.transpose() * x / double(4 * n);
}

// A5: with three evaluations of the loss a probe, of a loss that is no quadratic but near 0.
TEST(Sensitivity, HutchinsonNearTheTrace) {
  for (unsigned seed : {1, 2, 3}) {
    Matrix a = randomHessian(40, seed);
    auto loss = [&](const Eigen::VectorXd &w) {
      double q = 0.5 * w.dot(a * w);
      return q + q * q;
    };
    double step = 1e-3;
    auto form = [&](llvm::ArrayRef<float> signs) -> llvm::Expected<double> {
      Eigen::VectorXd v(40);
      for (int i = 0; i < 40; ++i)
        v[i] = signs[size_t(i)];
      Eigen::VectorXd zero = Eigen::VectorXd::Zero(40);
      return (loss(step * v) - 2 * loss(zero) + loss(-step * v)) / (step * step);
    };
    auto found = hutchinsonTrace(40, form, 200, 1e-4, seed);
    ASSERT_TRUE(bool(found));
    EXPECT_NEAR(*found / a.trace(), 1, 0.1);
  }
}

// A4: within 1 % of the exact eigenvalue, from any start.
TEST(Sensitivity, PowerIterationFindsTheTopEigenvalue) {
  for (unsigned seed : {1, 2, 3, 4}) {
    Matrix a = randomHessian(30, seed);
    double exact = Eigen::SelfAdjointEigenSolver<Matrix>(a).eigenvalues().maxCoeff();
    for (uint64_t start : {1, 7, 9}) {
      double found = topEigenvalue(
          30,
          [&](llvm::ArrayRef<double> v) {
            Eigen::VectorXd out = a * Eigen::Map<const Eigen::VectorXd>(v.data(), 30);
            return std::vector<double>(out.begin(), out.end());
          },
          0.01, start);
      EXPECT_NEAR(found / exact, 1, 0.01);
    }
  }
}

// A4: the order of layers by it does not depend on where the iteration begins.
TEST(Sensitivity, OrderByEigenvalueIsStable) {
  std::vector<Matrix> layers;
  for (unsigned l = 0; l < 12; ++l)
    layers.push_back(randomHessian(20, 100 + l) * std::pow(1.3, l % 5));
  std::vector<double> first;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    std::vector<double> values;
    for (const Matrix &a : layers)
      values.push_back(topEigenvalue(
          20,
          [&](llvm::ArrayRef<double> v) {
            Eigen::VectorXd out = a * Eigen::Map<const Eigen::VectorXd>(v.data(), 20);
            return std::vector<double>(out.begin(), out.end());
          },
          0.01, seed));
    if (first.empty())
      first = values;
    EXPECT_GT(rankCorrelation(first, values), 0.999);
  }
}

namespace {
struct Columns {
  int64_t rows = 64, n = 96;
  std::vector<float> w;
  Hessian h;
  explicit Columns(unsigned seed) : h(Hessian::identity(1)) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    w.resize(size_t(rows * n));
    for (float &v : w)
      v = normal(random);
    Matrix a = randomHessian(unsigned(n), seed);
    a.diagonal().array() += 0.01 * a.trace() / double(n); // a step is small beside any column's loss
    h = llvm::cantFail(Hessian::create({a.data(), a.data() + n * n}, n, 0));
  }
};
} // namespace

// What columns lose is what the product loses.
TEST(Sensitivity, ColumnLossesSumUpToTheError) {
  Columns c(5);
  std::vector<unsigned> levels(size_t(c.n), 8);
  for (size_t j = 0; j < levels.size(); j += 7)
    levels[j] = 1 + unsigned(j % 3);
  ColumnSolution found = roundColumns(c.w, c.rows, c.h, levels);
  std::vector<double> damped(c.h.damped.begin(), c.h.damped.end());
  double error = weightedError(c.w, found.decoded, c.rows, c.n, damped);
  EXPECT_NEAR(found.error / error, 1, 1e-3);
}

// A3: the mean is the budget, losses are equal but for whole levels, the layer loses less than with
// one width for all, by what the means of the losses predict.
TEST(Sensitivity, EqualColumns) {
  for (unsigned seed : {6, 7, 8}) {
    Columns c(seed);
    std::vector<unsigned> same(size_t(c.n), 16);
    ColumnSolution uniform = roundColumns(c.w, c.rows, c.h, same);
    std::vector<unsigned> levels = equalizeColumns(uniform.losses, 16, 4);
    double bits = 0, logs = 0, arith = 0;
    for (size_t j = 0; j < levels.size(); ++j) {
      bits += std::log2(levels[j]) / double(c.n);
      logs += std::log(uniform.losses[j]) / double(c.n);
      arith += uniform.losses[j] / double(c.n);
    }
    EXPECT_NEAR(bits, 4, 0.01);
    ColumnSolution equal = roundColumns(c.w, c.rows, c.h, levels);
    EXPECT_LT(equal.error, uniform.error);
    double gain = equal.error / uniform.error, predicted = std::exp(logs) / arith;
    EXPECT_NEAR(gain / predicted, 1, 0.2);
    // With `levels` rounded to whole ones a loss lies within that rounding of the mean, and a
    // tenth for what 64 rows happen to be.
    double mean = equal.error / 2 / double(c.n);
    for (size_t j = 0; j < levels.size(); ++j) {
      if (levels[j] < 3)
        continue; // a step is as wide as the weights
      double steps = levels[j] - 1, slack = std::pow(1 + 0.5 / steps, 2) * 1.8;
      EXPECT_LT(equal.losses[j], mean * slack) << j << " " << levels[j];
      EXPECT_GT(equal.losses[j], mean / slack) << j << " " << levels[j];
    }
  }
}

TEST(Sensitivity, RankCorrelation) {
  EXPECT_DOUBLE_EQ(rankCorrelation({1, 2, 3}, {10, 200, 3000}), 1);
  EXPECT_DOUBLE_EQ(rankCorrelation({1, 2, 3}, {3, 2, 1}), -1);
  EXPECT_DOUBLE_EQ(rankCorrelation({1, 2, 3, 4}, {1, 3, 2, 4}), 0.8);
  EXPECT_NEAR(rankCorrelation({1, 1, 2}, {1, 2, 3}), std::sqrt(3) / 2, 1e-12);
  EXPECT_EQ(rankCorrelation({1, 1, 1}, {1, 2, 3}), 0);
}

// A stack loses what its matrices lose, each with what entered it and as often as it counts.
TEST(Sensitivity, StacksAddUpTheirExperts) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  int64_t rows = 12, columns = 32;
  size_t size = size_t(rows * columns);
  std::vector<float> w(2 * size);
  for (float &v : w)
    v = normal(random);
  std::vector<InputStatistics> inputs;
  for (float gain : {1.0f, 4.0f}) {
    std::vector<float> x(size_t(100 * columns));
    for (auto [i, v] : llvm::enumerate(x))
      v = gain * normal(random) * (i % size_t(columns) < 4 ? 3 : 1);
    inputs.emplace_back(std::vector<std::string>{"w"}, columns).add(x.data(), 100);
  }
  auto subjectOf = [&](llvm::ArrayRef<float> values) {
    Subject out;
    out.name = "w";
    out.rows = int64_t(values.size()) / columns;
    out.columns = columns;
    std::vector<float> own = values.vec();
    out.values = [own]() -> Values { return own; };
    for (int bits : {2, 4})
      out.choices.push_back({"i" + std::to_string(bits), double(bits), 0, [own, bits]() -> Values {
                               std::vector<float> rounded = own;
                               for (float &v : rounded)
                                 v = std::ldexp(std::round(std::ldexp(v, bits - 2)), 2 - bits);
                               return rounded;
                             }});
    out.typical = 1;
    return out;
  };
  Subject stack = subjectOf(w), first = subjectOf(llvm::ArrayRef(w).take_front(size)),
          second = subjectOf(llvm::ArrayRef(w).drop_front(size));
  stack.parts = {{&inputs[0], 1.75}, {&inputs[1], 0.25}};
  first.parts = {{&inputs[0]}};
  second.parts = {{&inputs[1]}};
  for (llvm::StringRef name : {"trace", "eigenvalue", "column"}) {
    SCOPED_TRACE(name.str());
    const ProviderInfo *provider = llvm::cantFail(parseProvider(name));
    std::vector<double> both = llvm::cantFail(provider->run(stack)),
                        a = llvm::cantFail(provider->run(first)),
                        b = llvm::cantFail(provider->run(second));
    for (size_t c = 0; c < both.size(); ++c)
      EXPECT_NEAR(both[c], 1.75 * a[c] + 0.25 * b[c], 1e-9 * both[c]);
    // No tokens went to the second: its weight is 0, and its H does not matter.
    stack.parts[1] = {nullptr, 0};
    EXPECT_NEAR(llvm::cantFail(provider->run(stack))[0], 1.75 * a[0], 1e-9 * a[0]);
    stack.parts[1] = {&inputs[1], 0.25};
  }
}

// A part counts as often as tokens went to it; where none was seen, all alike.
TEST(Sensitivity, PartsCountAsTokensGo) {
  std::vector<InputStatistics> inputs(3, InputStatistics({"w"}, 1));
  inputs[0].rows = 30;
  inputs[1].rows = 10;
  std::vector<double> weights, expected = {1.5, 0.5, 0, 0};
  for (const Subject::Part &part :
       Subject::partsOf({&inputs[0], &inputs[1], &inputs[2], nullptr}, 2))
    weights.push_back(part.weight);
  EXPECT_EQ(weights, expected);
  for (const Subject::Part &part : Subject::partsOf({nullptr, nullptr, nullptr, nullptr}, 2))
    EXPECT_EQ(part.weight, 0.5);
}

// Every provider of the table keeps to what Subject asks: a loss for each choice, the fewer bits
// the larger, and of two inputs the larger one costs more.
TEST(Sensitivity, ProvidersOrderChoices) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  int64_t rows = 16, columns = 32;
  std::vector<float> w(size_t(rows * columns));
  for (float &v : w)
    v = normal(random);
  auto lossesAt = [&](const ProviderInfo &provider, float gain) {
    InputStatistics input({"w"}, columns);
    std::vector<float> x(size_t(200 * columns));
    for (float &v : x)
      v = gain * normal(random);
    input.add(x.data(), 200);
    Subject subject;
    subject.name = "w";
    subject.rows = rows;
    subject.columns = columns;
    subject.parts = {{&input}};
    subject.values = [&]() -> Values { return w; };
    std::vector<double> h(size_t(columns * columns));
    for (int64_t i = 0; i < columns; ++i)
      for (int64_t j = 0; j < columns; ++j)
        h[size_t(i * columns + j)] = input.at(i, j) / 200;
    auto rounded = [&](int bits) {
      std::vector<float> out = w;
      for (float &v : out)
        v = std::ldexp(std::round(std::ldexp(v, bits - 2)), 2 - bits);
      return out;
    };
    for (int bits : {2, 4, 6})
      subject.choices.push_back({"i" + std::to_string(bits), double(bits),
                                 weightedError(w, rounded(bits), rows, columns, h),
                                 [rounded, bits]() -> Values { return rounded(bits); }});
    subject.typical = 1;
    subject.divergence = [&](llvm::ArrayRef<float> values) -> llvm::Expected<double> {
      return 0.01 * weightedError(w, values, rows, columns, h);
    };
    auto losses = provider.run(subject);
    EXPECT_TRUE(bool(losses)) << llvm::toString(losses.takeError());
    return *losses;
  };
  for (const ProviderInfo &provider : providers()) {
    SCOPED_TRACE(provider.name.str());
    std::vector<double> losses = lossesAt(provider, 1), larger = lossesAt(provider, 3);
    ASSERT_EQ(losses.size(), 3u);
    EXPECT_GT(losses[0], losses[1]);
    EXPECT_GT(losses[1], losses[2]);
    EXPECT_GT(losses[2], 0);
    EXPECT_NEAR(larger[1] / losses[1], 9, 4);
  }
}
