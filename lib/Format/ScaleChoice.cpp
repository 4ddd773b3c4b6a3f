//===- ScaleChoice.cpp - How large an offset or a scale had best be -------===//
//
// By the file formats' own rules where they have some, else by a short search for the
// least squared error.
//
//===----------------------------------------------------------------------===//
#include "BaseEncoder.h"
#include <algorithm>
#include <cmath>
#include <limits>

using namespace quern::format;

/// The offset of the line through (code, value) that fits best, over several steps between codes:
/// unlike the least value, it lets outliers clip. For unsigned integer codes.
float BaseEncoder::searchOffset(llvm::ArrayRef<float> values, float least, float most) const {
  float range = most - least;
  if (!(range > 0) || !std::isfinite(range))
    return least;
  bool mayBeNegative = canBeNegative(spec.offset);
  std::vector<float> shifted(values.size()), codes(values.size());
  for (size_t i = 0; i < values.size(); ++i)
    shifted[i] = values[i] - least;
  double bestError = INFINITY;
  float best = least;
  for (float wider : {-0.4f, -0.2f, 0.0f, 0.2f, 0.4f, 0.6f, 0.8f, 1.0f}) {
    float inverse = (rounder.high() + wider) / range;
    if (!std::isfinite(inverse))
      return least;
    rounder.roundIntegers(shifted, inverse, {}, codes.data());
    // In units of the range, whose squares neither overflow nor vanish.
    double n = double(values.size()), c = 0, cc = 0, v = 0, vv = 0, cv = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      double code = codes[i], value = double(values[i]) / range;
      c += code;
      cc += code * code;
      v += value;
      vv += value * value;
      cv += code * value;
    }
    double determinant = n * cc - c * c;
    if (determinant <= 0 || cc == 0)
      continue;
    double slope = (n * cv - c * v) / determinant, offset = (v - slope * c) / n;
    bool isMinus = spec.offsetSign < 0;
    if (!mayBeNegative && (isMinus ? offset > 0 : offset < 0)) {
      offset = 0;
      slope = cv / cc;
    }
    double error = vv + slope * slope * cc + n * offset * offset - 2 * slope * cv - 2 * offset * v +
                   2 * slope * offset * c;
    if (slope > 0 && error < bestError) {
      bestError = error;
      best = float(offset * range);
    }
  }
  return best;
}

/// The scale of one tile before it is stored. `zero` is per element, or empty.
float BaseEncoder::chooseScale(llvm::ArrayRef<float> rest, llvm::ArrayRef<float> zero) const {
  const Level &inner = spec.scale.back();
  bool powerOfTwo =
      inner.number.isFloat(FloatKind::F8E8M0FNU) || inner.number.isFloat(FloatKind::F8E8M0Half);
  if (powerOfTwo) {
    // OCP MX's rule (and GGUF's): by exponents alone. The logarithm is rounded to f32 as there.
    float magnitude = 0;
    for (float v : rest)
      magnitude = std::max(magnitude, std::fabs(v));
    if (magnitude == 0)
      return 0;
    if (rounder.isInteger()) {
      // Integers have no headroom above their last exponent: take the next power that fits.
      float needed = magnitude / rounder.high();
      float power = std::ldexp(1.0f, std::ilogb(needed));
      return power < needed ? power * 2 : power;
    }
    float exponent = std::floor(static_cast<float>(std::log2(double(magnitude))));
    int top = std::max(rounder.high(), -rounder.low()) > 0
                  ? std::ilogb(std::max(rounder.high(), -rounder.low()))
                  : 0;
    return std::ldexp(1.0f, int(exponent) - top);
  }
  bool isSigned = canBeNegative(spec.scale);
  if (!zero.empty() || (!spec.offset.empty() && rounder.isInteger())) {
    // Both ends must fit; the scale is positive by construction.
    float scale = 0;
    for (size_t i = 0; i < rest.size(); ++i) {
      float z = zero.empty() ? 0 : zero[i];
      if (rest[i] > 0 && rounder.high() > z)
        scale = std::max(scale, rest[i] / (rounder.high() - z));
      if (rest[i] < 0 && rounder.low() < z)
        scale = std::max(scale, rest[i] / (rounder.low() - z));
    }
    return isSingleFloat(spec.scale) ? scale : searchScale(rest, zero, scale);
  }
  float scale = rounder.scaleFor(rest, isSigned);
  bool plainRounding = (rounder.isInteger() && isSingleFloat(spec.scale)) || followsTernaryTools();
  bool fixed = spec.code.kind == Code::Kind::Sign || plainRounding ||
               (spec.code.kind == Code::Kind::Number && spec.code.number.isFloat());
  return fixed ? scale : searchScale(rest, zero, scale);
}

/// GGUF's tools scale ternary codes by the largest magnitude, meant for matrices that are
/// ternary already.
bool BaseEncoder::followsTernaryTools() const {
  return spec.code.kind == Code::Kind::Ternary && spec.scale.size() == 1 &&
         spec.scale[0].number.isFloat(FloatKind::F16);
}

/// Beyond this, decoding the largest code would overflow.
float BaseEncoder::largestScale(llvm::ArrayRef<float> zero) const {
  float span = std::max(std::fabs(rounder.low()), std::fabs(rounder.high()));
  for (float z : zero)
    span = std::max({span, std::fabs(rounder.low() - z), std::fabs(rounder.high() - z)});
  if (span <= 1)
    return std::numeric_limits<float>::max();
  float largest = std::numeric_limits<float>::max() / span;
  return std::isfinite(largest * span) ? largest : std::nextafter(largest, 0.0f);
}

/// Tries scales below `start` (clipping a little often costs less than coarse steps), each
/// refitted to its codes, and returns the one with the least squared error.
float BaseEncoder::searchScale(llvm::ArrayRef<float> rest, llvm::ArrayRef<float> zero,
                               float start) const {
  if (start == 0 || !std::isfinite(start))
    return start;
  static constexpr float fine[] = {1, 0.97f, 0.94f, 0.91f, 0.88f, 0.84f, 0.8f, 1.04f};
  static constexpr float few[] = {1, 0.8f, 0.65f, 0.5f, 0.4f, 0.3f}; // of very few levels
  static constexpr float coarse[] = {1, 0.8f, 0.6f};                 // where rounding is slow
  // Of many levels, the outermost of which lie far from each other.
  static constexpr float wide[] = {1, 0.85f, 0.92f, 1.05f, 1.1f, 1.15f, 1.2f, 1.25f, 1.3f, 1.4f};
  llvm::ArrayRef<float> factors = fine;
  if (rounder.isVector())
    factors = coarse;
  else if (spec.code.bitsPerIndex() <= 2)
    factors = few;
  else if (spec.code.kind == Code::Kind::Table && spec.code.bitsPerIndex() > 4)
    factors = wide;
  CodeRounder::Fit best = {start, INFINITY};
  for (float factor : factors) {
    CodeRounder::Fit fit = rounder.fit(rest, zero, start * factor);
    if (fit.error < best.error && (fit.scale > 0 || canBeNegative(spec.scale)))
      best = fit;
  }
  return best.scale;
}
