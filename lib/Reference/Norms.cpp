//===- Norms.cpp - Normalisation over the last dimension ------------------===//
//
// Root mean square and layer normalisation.
//
//===----------------------------------------------------------------------===//
#include "quern/Reference/Ops.h"
#include <cassert>
#include <cmath>

using namespace quern::reference;

void quern::reference::rmsNorm(std::span<const float> x, std::span<const float> gain, double eps,
                               bool unitOffset, std::span<float> out) {
  size_t width = gain.size();
  assert(width && x.size() % width == 0 && out.size() == x.size());
  for (size_t row = 0; row < x.size(); row += width) {
    double squares = 0;
    for (size_t i = 0; i < width; ++i)
      squares += double(x[row + i]) * x[row + i];
    double inverse = 1.0 / std::sqrt(squares / double(width) + eps);
    for (size_t i = 0; i < width; ++i)
      out[row + i] =
          static_cast<float>(x[row + i] * inverse * (double(gain[i]) + (unitOffset ? 1.0 : 0.0)));
  }
}

void quern::reference::layerNorm(std::span<const float> x, std::span<const float> gain,
                                 std::span<const float> bias, double eps, std::span<float> out) {
  size_t width = gain.size();
  assert(width && x.size() % width == 0 && out.size() == x.size());
  assert(bias.empty() || bias.size() == width);
  for (size_t row = 0; row < x.size(); row += width) {
    double mean = 0, variance = 0;
    for (size_t i = 0; i < width; ++i)
      mean += x[row + i];
    mean /= double(width);
    for (size_t i = 0; i < width; ++i)
      variance += (x[row + i] - mean) * (x[row + i] - mean);
    double inverse = 1.0 / std::sqrt(variance / double(width) + eps);
    for (size_t i = 0; i < width; ++i)
      out[row + i] = static_cast<float>((x[row + i] - mean) * inverse * gain[i] +
                                        (bias.empty() ? 0.0 : double(bias[i])));
  }
}
