// Every op against an independent formula: closed forms, identities, or values worked by hand.
#include "quern/Reference/Ops.h"
#include "quern/Reference/Tolerance.h"
#include "gtest/gtest.h"
#include <bit>
#include <complex>
#include <numeric>
#include <random>

using namespace quern::reference;

namespace {
std::vector<float> randomValues(size_t count, uint32_t seed, float deviation = 1) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> values(count);
  for (float &v : values)
    v = normal(engine);
  return values;
}
Matrix matrix(const std::vector<float> &data, int64_t rows) {
  return {data, rows, int64_t(data.size()) / rows};
}
} // namespace

TEST(Linear, SmallProductByHand) {
  std::vector<float> x = {1, 2, 3, -1, 0, 1}, w = {1, 0, 2, 0, 1, -1}, bias = {10, 20}, out(4);
  linear(matrix(x, 2), matrix(w, 2), bias, ActivationFormat::F32, out);
  EXPECT_EQ(out, (std::vector<float>{17, 19, 11, 19}));
  linear(matrix(x, 2), matrix(w, 2), {}, ActivationFormat::F32, out);
  EXPECT_EQ(out, (std::vector<float>{7, -1, 1, -1}));
}

TEST(Linear, IntegersAreExact) {
  // Codes with scale 1 on both sides, sums beyond f32's 24 bits: the f64 sum is exact.
  std::vector<float> x(4096), w(4096);
  std::mt19937 engine(1);
  int64_t expected = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = i % 32 ? int(engine() % 255) - 127 : 127; // absmax 127 in each group: scale 1
    w[i] = int(engine() % 255) - 127 + 200;          // biased, so that the sum is large
    expected += int64_t(x[i]) * int64_t(w[i]);
  }
  for (ActivationFormat format :
       {ActivationFormat::F32, ActivationFormat::Q8, ActivationFormat::Int8}) {
    std::vector<float> out(1);
    linear(matrix(x, 1), matrix(w, 1), {}, format, out);
    EXPECT_EQ(out[0], float(expected));
  }
}

TEST(Linear, ActivationsAreRoundedAsAsked) {
  std::vector<float> x = {127, 0.4f, 1.00390625f}, w = {1, 1000, 512}, out(1);
  auto run = [&](ActivationFormat format) {
    linear(matrix(x, 1), matrix(w, 1), {}, format, out);
    return out[0];
  };
  EXPECT_FLOAT_EQ(run(ActivationFormat::F32), 127 + 400 + 514);
  EXPECT_FLOAT_EQ(run(ActivationFormat::Q8), 127 + 0 + 512);
  EXPECT_NEAR(run(ActivationFormat::BF16), 127 + 400.39 + 512, 0.01);
}

TEST(Linear, MagnitudeBoundsTheResult) {
  std::vector<float> x = randomValues(64, 2), w = randomValues(64 * 3, 3), bias = {-1, 2, -3};
  std::vector<float> out(3);
  std::vector<double> magnitude(3);
  linear(matrix(x, 1), matrix(w, 3), bias, ActivationFormat::F32, out);
  linearMagnitude(matrix(x, 1), matrix(w, 3), bias, ActivationFormat::F32, magnitude);
  for (int n = 0; n < 3; ++n) {
    double sum = std::fabs(bias[n]);
    for (int k = 0; k < 64; ++k)
      sum += std::fabs(x[k] * w[n * 64 + k]);
    EXPECT_NEAR(magnitude[n], sum, 1e-5 * sum);
    EXPECT_LT(std::fabs(out[n]), magnitude[n]);
  }
}

TEST(Tolerance, PassesRoundingAndFailsADroppedProduct) {
  std::vector<float> x = randomValues(1000, 4), w = randomValues(1000, 5), exact(1), out(1);
  std::vector<double> magnitude(1);
  linear(matrix(x, 1), matrix(w, 1), {}, ActivationFormat::F32, exact);
  linearMagnitude(matrix(x, 1), matrix(w, 1), {}, ActivationFormat::F32, magnitude);
  out[0] = 0;
  for (int i = 0; i < 1000; ++i)
    out[0] += x[i] * w[i];
  EXPECT_EQ(compare(out, exact, magnitude, f32Epsilon), "");
  out[0] -= x[500] * w[500];
  EXPECT_NE(compare(out, exact, magnitude, f32Epsilon), "");
  out[0] = NAN;
  EXPECT_NE(compare(out, exact, magnitude, f32Epsilon), "");
}

TEST(TakeRows, GathersWithRepetition) {
  std::vector<float> table = {0, 1, 10, 11, 20, 21}, out(6);
  takeRows(matrix(table, 3), std::vector<int32_t>{2, 0, 2}, out);
  EXPECT_EQ(out, (std::vector<float>{20, 21, 0, 1, 20, 21}));
}

TEST(RmsNorm, RowsHaveUnitMeanSquareTimesGain) {
  std::vector<float> x = {3, -4, 0, 0, 100, 100, 100, 100}, gain = {1, 2, 1, -0.5f}, out(8);
  rmsNorm(x, gain, 0, false, out);
  EXPECT_FLOAT_EQ(out[0], 3 / 2.5f); // mean square 25/4
  EXPECT_FLOAT_EQ(out[1], -4 / 2.5f * 2);
  EXPECT_FLOAT_EQ(out[4], 1);
  EXPECT_FLOAT_EQ(out[7], -0.5f);
  rmsNorm(x, gain, 0, true, out);
  EXPECT_FLOAT_EQ(out[1], -4 / 2.5f * 3);
  EXPECT_FLOAT_EQ(out[7], 0.5f);
  rmsNorm(x, gain, 18.75, false, out);
  EXPECT_FLOAT_EQ(out[0], 3 / 5.0f); // eps under the root
}

TEST(LayerNorm, RemovesMeanAndScale) {
  std::vector<float> x = {1, 2, 3, 4}, gain = {1, 1, 1, 2}, bias = {0, 0, 0, 5}, out(4);
  layerNorm(x, gain, bias, 0, out);
  float deviation = std::sqrt(1.25f); // population variance of 1..4
  EXPECT_FLOAT_EQ(out[0], -1.5f / deviation);
  EXPECT_FLOAT_EQ(out[3], 2 * 1.5f / deviation + 5);
  layerNorm(x, gain, {}, 0, out);
  EXPECT_FLOAT_EQ(out[3], 2 * 1.5f / deviation);
}

TEST(Rope, TurnsPairsAsComplexNumbers) {
  std::vector<float> frequencies = {1.0f, 0.01f};
  std::vector<int32_t> positions = {0, 3, 100};
  std::vector<float> x = randomValues(3 * 2 * 6, 6), out(x.size());
  for (RopePairing pairing : {RopePairing::Interleaved, RopePairing::Neox}) {
    RopeShape shape{2, 6, pairing, frequencies, 1.5};
    rope(x, positions, shape, out);
    for (int t = 0; t < 3; ++t)
      for (int head = 0; head < 2; ++head) {
        int base = (t * 2 + head) * 6;
        for (int pair = 0; pair < 2; ++pair) {
          int first = pairing == RopePairing::Neox ? pair : 2 * pair;
          int second = pairing == RopePairing::Neox ? pair + 2 : 2 * pair + 1;
          std::complex<double> turned = std::complex<double>(x[base + first], x[base + second]) *
                                        std::polar(1.5, double(positions[t]) * frequencies[pair]);
          EXPECT_FLOAT_EQ(out[base + first], float(turned.real()));
          EXPECT_FLOAT_EQ(out[base + second], float(turned.imag()));
        }
        EXPECT_EQ(out[base + 4], x[base + 4]); // beyond the rotated part
        EXPECT_EQ(out[base + 5], x[base + 5]);
      }
  }
}

TEST(Gate, KnownValues) {
  EXPECT_NEAR(applyGate(GateFunction::Silu, 1), 0.7310585786300049, 1e-12);
  EXPECT_NEAR(applyGate(GateFunction::Silu, -3), -0.14227761953270035, 1e-12);
  EXPECT_NEAR(applyGate(GateFunction::Gelu, 1), 0.8413447460685429, 1e-12);
  EXPECT_NEAR(applyGate(GateFunction::Gelu, -0.5), -0.15426876936299344, 1e-12);
  EXPECT_NEAR(applyGate(GateFunction::GeluTanh, 1), 0.8411919906082768, 1e-12);
  EXPECT_NEAR(applyGate(GateFunction::GeluTanh, -0.5), -0.15428599017485633, 1e-12);
  EXPECT_EQ(applyGate(GateFunction::Silu, -1000), 0); // no NaN from overflow
  std::vector<float> gate = {1, -3}, up = {2, -1}, out(2);
  gatedActivation(GateFunction::Silu, gate, up, out);
  EXPECT_FLOAT_EQ(out[0], 1.46211716f);
  EXPECT_FLOAT_EQ(out[1], 0.142277620f);
}

TEST(Elementwise, AddScaleSoftcap) {
  std::vector<float> a = {1, -2}, b = {0.5f, 4}, out(2);
  add(a, b, out);
  EXPECT_EQ(out, (std::vector<float>{1.5f, 2}));
  scale(a, 0.25, out);
  EXPECT_EQ(out, (std::vector<float>{0.25f, -0.5f}));
  softcap(std::vector<float>{1e6f, 0.001f}, 30, out);
  EXPECT_FLOAT_EQ(out[0], 30);
  EXPECT_NEAR(out[1], 0.001f, 1e-9);
}

TEST(Route, PicksTheMostProbableInOrder) {
  // Probabilities 0.1 0.4 0.2 0.3
  std::vector<float> logits = {std::log(1.f), std::log(4.f), std::log(2.f), std::log(3.f)};
  std::vector<int32_t> indices(2);
  std::vector<float> weights(2);
  route(matrix(logits, 1), 2, false, indices, weights);
  EXPECT_EQ(indices, (std::vector<int32_t>{1, 3}));
  EXPECT_FLOAT_EQ(weights[0], 0.4f);
  EXPECT_FLOAT_EQ(weights[1], 0.3f);
  route(matrix(logits, 1), 2, true, indices, weights);
  EXPECT_FLOAT_EQ(weights[0], 4 / 7.f);
  EXPECT_FLOAT_EQ(weights[1], 3 / 7.f);
  // Equal logits: the lower index first.
  std::vector<float> equal = {1, 5, 5, 5};
  route(matrix(equal, 1), 2, true, indices, weights);
  EXPECT_EQ(indices, (std::vector<int32_t>{1, 2}));
}

TEST(Experts, IndexedProductAndCombination) {
  // Three experts of [1,2]: sum, difference, ten times the first.
  std::vector<float> stack = {1, 1, 1, -1, 10, 0}, x = {3, 2, 5, 7}, out(4);
  std::vector<int32_t> indices = {2, 1, 0, 2}; // two tokens, two experts each
  expertLinear(matrix(x, 2), matrix(stack, 3), 3, indices, 2, ActivationFormat::F32, out);
  EXPECT_EQ(out, (std::vector<float>{30, 1, 12, 50}));
  // One row for each (token, expert).
  std::vector<float> own = {1, 2, 3, 4, 5, 6, 7, 8};
  expertLinear(matrix(own, 4), matrix(stack, 3), 3, indices, 2, ActivationFormat::F32, out);
  EXPECT_EQ(out, (std::vector<float>{10, -1, 11, 70}));
  std::vector<float> combined(2), weights = {0.5f, 2, 1, 0.1f};
  combineExperts(out, weights, 2, 1, combined);
  EXPECT_EQ(combined, (std::vector<float>{3, 18}));
}

// In int8 with a scale a token and a row, as both multiplied by a dense Hadamard matrix.
TEST(Hadamard, RotatedProductInInt8) {
  constexpr size_t k = 512, n = 12;
  std::vector<float> x = randomValues(k, 1), w = randomValues(n * k, 2), rotatedX(k), rotatedW;
  for (size_t at : {5u, 130u, 400u})
    x[at] *= 200;
  auto dense = [](size_t i, size_t j) {
    return (std::popcount(i & j) % 2 ? -1.0 : 1.0) / std::sqrt(double(k));
  };
  auto multiply = [&](const float *row) {
    std::vector<float> out(k);
    for (size_t i = 0; i < k; ++i) {
      double sum = 0;
      for (size_t j = 0; j < k; ++j)
        sum += dense(i, j) * double(row[j]);
      out[i] = float(sum);
    }
    return out;
  };
  hadamard(x, k, rotatedX);
  std::vector<float> expectedX = multiply(x.data());
  for (size_t i = 0; i < k; ++i)
    ASSERT_NEAR(rotatedX[i], expectedX[i], 1e-4) << i;
  for (size_t row = 0; row < n; ++row)
    for (float v : multiply(w.data() + row * k))
      rotatedW.push_back(v);
  std::vector<float> exact(n);
  linear(matrix(x, 1), matrix(w, n), {}, ActivationFormat::F32, exact);
  // What is left of x Wᵀ once both are rounded, relative to its size.
  auto errorOf = [&](const std::vector<float> &input, const std::vector<float> &weights) {
    std::vector<int8_t> codes(n * k);
    std::vector<float> scales(n), decoded(n * k), out(n);
    quantizeRow(weights, k, codes, scales);
    for (size_t i = 0; i < n * k; ++i)
      decoded[i] = float(codes[i]) * scales[i / k];
    linear(matrix(input, 1), matrix(decoded, n), {}, ActivationFormat::Int8, out);
    double error = 0, size = 0;
    for (size_t i = 0; i < n; ++i) {
      error += std::pow(double(out[i]) - double(exact[i]), 2);
      size += std::pow(double(exact[i]), 2);
    }
    return std::sqrt(error / size);
  };
  double plain = errorOf(x, w), rotated = errorOf(rotatedX, rotatedW);
  EXPECT_LT(rotated, 0.02);
  EXPECT_LT(rotated, plain) << plain;
}
