//===- Elementwise.cpp - Ops without neighbours ---------------------------===//
//
// Gated activations, sums, scaling and soft caps.
//
//===----------------------------------------------------------------------===//
#include "quern/Reference/Hadamard.h"
#include "quern/Reference/Ops.h"
#include <cassert>
#include <cmath>
#include <numbers>
#include <vector>

using namespace quern::reference;

double quern::reference::applyGate(GateFunction function, double x) {
  switch (function) {
  case GateFunction::Silu:
    return x / (1 + std::exp(-x));
  case GateFunction::GeluTanh: {
    double inner = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
    return 0.5 * x * (1 + std::tanh(inner));
  }
  case GateFunction::Gelu:
    return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2));
  }
  return 0;
}

void quern::reference::gatedActivation(GateFunction function, std::span<const float> gate,
                                       std::span<const float> up, std::span<float> out) {
  assert(gate.size() == up.size() && out.size() == gate.size());
  for (size_t i = 0; i < gate.size(); ++i)
    out[i] = static_cast<float>(applyGate(function, gate[i]) * up[i]);
}

void quern::reference::add(std::span<const float> a, std::span<const float> b,
                           std::span<float> out) {
  assert(a.size() == b.size() && out.size() == a.size());
  for (size_t i = 0; i < a.size(); ++i)
    out[i] = a[i] + b[i];
}

void quern::reference::scale(std::span<const float> x, double factor, std::span<float> out) {
  assert(out.size() == x.size());
  for (size_t i = 0; i < x.size(); ++i)
    out[i] = static_cast<float>(x[i] * factor);
}

void quern::reference::scaleChannels(std::span<const float> x, std::span<const float> factors,
                                     std::span<float> out) {
  assert(out.size() == x.size() && x.size() % factors.size() == 0);
  for (size_t i = 0; i < x.size(); ++i)
    out[i] = x[i] * factors[i % factors.size()];
}

void quern::reference::softcap(std::span<const float> x, double cap, std::span<float> out) {
  assert(out.size() == x.size());
  for (size_t i = 0; i < x.size(); ++i)
    out[i] = static_cast<float>(cap * std::tanh(x[i] / cap));
}

void quern::reference::hadamard(std::span<const float> x, int64_t block, std::span<float> out) {
  std::copy(x.begin(), x.end(), out.begin());
  const int64_t factor = hadamardFactor(block);
  const size_t n = size_t(block / factor), half = size_t(factor / 2);
  for (size_t distance = 1; distance < n; distance *= 2)
    for (size_t run = 0; run < out.size(); run += 2 * distance)
      for (size_t i = run; i < run + distance; ++i) {
        float a = out[i], b = out[i + distance];
        out[i] = a + b;
        out[i + distance] = a - b;
      }
  std::vector<float> sums(half), differences(half);
  const size_t columns = half ? out.size() / size_t(factor) : 0; // strided ones, n to a block
  for (size_t column = 0; column < columns; ++column) {
    size_t first = column / n * size_t(block) + column % n;
    for (size_t i = 0; i < half; ++i) {
      float a = out[first + i * n], b = out[first + (half + i) * n];
      sums[i] = a + b;
      differences[i] = a - b;
    }
    for (size_t i = 0; i < half; ++i) {
      float low = differences[i], high = -sums[i];
      for (size_t j = 0; j < half; ++j)
        if (int sign = conference(factor, int64_t(i), int64_t(j))) {
          low = sign > 0 ? low + sums[j] : low - sums[j];
          high = sign > 0 ? high + differences[j] : high - differences[j];
        }
      out[first + i * n] = low;
      out[first + (half + i) * n] = high;
    }
  }
  float scale = float(1.0 / std::sqrt(double(block)));
  for (float &v : out)
    v *= scale;
}
