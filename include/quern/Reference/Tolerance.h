//===- Tolerance.h - When generated code agrees with the reference -*- C++ -*-===//
//
// One rule everywhere: |error| <= c * eps * sum |a * b| for each element, where the sum runs
// over the products that make up the element and eps is that of the type multiplied in.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_REFERENCE_TOLERANCE_H
#define QUERN_REFERENCE_TOLERANCE_H

#include "quern/Reference/Activations.h"
#include <cmath>
#include <cstdint>
#include <span>
#include <string>

namespace quern::reference {

/// The relative spacing of values at 1 of the types products are formed in.
inline constexpr double f32Epsilon = 0x1p-23;
inline constexpr double f16Epsilon = 0x1p-10;
inline constexpr double bf16Epsilon = 0x1p-7;

/// What products of a linear with such activations are formed in. Integer products are
/// exact; their sums are scaled and added in f32.
inline double epsilonOf(ActivationFormat format) {
  return format == ActivationFormat::BF16 ? bf16Epsilon : f32Epsilon;
}

/// The constant used unless a test says otherwise. Sums kept in 8 or more partial sums err by a
/// few eps of the sum of magnitudes even at K = 4096, so 16 leaves a margin; it still is 2e-6 of
/// that sum in f32, less than any one dropped product, wrong scale or wrong code makes.
inline constexpr double defaultToleranceFactor = 16;

/// Compares element by element; `magnitude` holds the sums of |a * b|. Returns an empty string if
/// all agree, else a sentence about the worst one. A value that is not finite agrees only with
/// another that is not.
inline std::string compare(std::span<const float> actual, std::span<const float> expected,
                           std::span<const double> magnitude, double eps,
                           double factor = defaultToleranceFactor) {
  if (actual.size() != expected.size() || magnitude.size() != expected.size())
    return "sizes differ: " + std::to_string(actual.size()) + ", " +
           std::to_string(expected.size()) + ", " + std::to_string(magnitude.size());
  double worst = 1;
  std::string message;
  for (size_t i = 0; i < actual.size(); ++i) {
    double allowed = factor * eps * magnitude[i];
    double error = std::fabs(double(actual[i]) - double(expected[i]));
    bool finite = std::isfinite(actual[i]);
    double ratio = finite != std::isfinite(expected[i]) ? INFINITY
                   : !finite || error <= allowed        ? 0
                                                        : error / allowed;
    if (ratio <= worst)
      continue;
    worst = ratio;
    message = "element " + std::to_string(i) + ": expected " + std::to_string(expected[i]) +
              ", found " + std::to_string(actual[i]) + ", error " + std::to_string(error) +
              " where " + std::to_string(allowed) + " is allowed";
  }
  return message;
}

} // namespace quern::reference

#endif // QUERN_REFERENCE_TOLERANCE_H
