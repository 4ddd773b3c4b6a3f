//===- Rope.cpp - Rope scaling resolved into frequencies ------------------===//
//
// Formulas: linear (kaiokendev), llama3 (Meta's reference), YaRN (arXiv 2309.00071),
// LongRoPE (arXiv 2402.13753), each in the form transformers gives it.
//
//===----------------------------------------------------------------------===//
#include "Rope.h"
#include "llvm/ADT/Twine.h"
#include <algorithm>
#include <cmath>

using namespace llvm;

namespace quern::import {
namespace {

constexpr double pi = 3.14159265358979323846;

/// theta^(-2i/dims), in single precision as models are trained with.
float baseFrequency(double theta, int64_t dims, int64_t pair) {
  float exponent = float(2 * pair) / float(dims);
  return 1.0f / float(std::pow(theta, double(exponent)));
}

/// Between the two wavelengths blends smoothly from f to f / factor.
void scaleLlama3(std::vector<float> &frequencies, const RopeScaling &s) {
  double longest = s.originalContext / s.lowFrequency,
         shortest = s.originalContext / s.highFrequency;
  for (float &f : frequencies) {
    double wavelength = 2 * pi / f;
    if (wavelength < shortest)
      continue;
    if (wavelength > longest) {
      f = float(f / *s.factor);
      continue;
    }
    double smooth =
        (s.originalContext / wavelength - s.lowFrequency) / (s.highFrequency - s.lowFrequency);
    f = float((1 - smooth) * f / *s.factor + smooth * f);
  }
}

/// Pairs that turn often keep their frequency, those that turn less than once are stretched.
void scaleYarn(std::vector<float> &frequencies, double theta, int64_t dims, const RopeScaling &s) {
  auto dimensionOf = [&](double rotations) {
    return dims * std::log(s.originalContext / (rotations * 2 * pi)) / (2 * std::log(theta));
  };
  double low = dimensionOf(s.betaFast), high = dimensionOf(s.betaSlow);
  if (s.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, double(dims - 1));
  if (low == high)
    high += 0.001;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    double stretched = std::clamp((double(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] =
        float(frequencies[i] / *s.factor * stretched + frequencies[i] * (1 - stretched));
  }
}

double yarnAttention(const RopeScaling &s) {
  auto scale = [&](double m) { return *s.factor <= 1 ? 1.0 : 0.1 * m * std::log(*s.factor) + 1.0; };
  if (s.mscale && s.mscaleAllDims && *s.mscale != 0 && *s.mscaleAllDims != 0)
    return scale(*s.mscale) / scale(*s.mscaleAllDims);
  return scale(1);
}

Error divide(std::vector<float> &frequencies, const std::vector<double> &by, StringRef what) {
  if (by.size() != frequencies.size())
    return createStringError("rope: expected " + Twine(frequencies.size()) + " " + what +
                             ", found " + Twine(by.size()));
  for (size_t i = 0; i < by.size(); ++i) {
    if (!(by[i] > 0) || !std::isfinite(by[i]))
      return createStringError("rope: " + what + " must be positive; number " + Twine(i) + " is " +
                               std::to_string(by[i]));
    frequencies[i] = float(frequencies[i] / by[i]);
  }
  return Error::success();
}

bool positive(double x) { return x > 0 && std::isfinite(x); }

} // namespace

Expected<RopeConfig> resolveRope(double theta, int64_t dims, const RopeScaling &scaling,
                                 int64_t context) {
  RopeScaling s = scaling;
  if (!positive(theta) || theta == 1)
    return createStringError("rope: the base must be positive and not 1, found " +
                             std::to_string(theta));
  if (dims <= 0 || dims % 2 != 0)
    return createStringError(
        "rope: the number of rotated dimensions must be even and positive, found " + Twine(dims));
  RopeConfig rope;
  rope.theta = theta;
  rope.dims = dims;
  for (int64_t i = 0; i < dims / 2; ++i)
    rope.frequencies.push_back(baseFrequency(theta, dims, i));
  if (!s.divisors.empty())
    if (Error e = divide(rope.frequencies, s.divisors, "frequency factors"))
      return std::move(e);
  if (!s.divisors.empty())
    rope.scaling = "factors";

  // `dynamic` changes nothing up to the model's own context, beyond which programs do not go.
  if (s.type == "default" || s.type == "none" || s.type == "dynamic")
    return rope;
  bool longrope = s.type == "longrope";
  if (s.originalContext <= 0)
    s.originalContext = context;
  if (!s.factor && (longrope || s.type == "yarn") && s.originalContext > 0)
    s.factor = double(context) / double(s.originalContext);
  if (!s.factor || !positive(*s.factor))
    return createStringError("rope: scaling of type '" + s.type + "' needs a positive factor");
  if (s.originalContext <= 1 && s.type != "linear")
    return createStringError("rope: scaling of type '" + s.type +
                             "' needs the original context length");

  rope.scaling = s.type;
  rope.factor = *s.factor;
  rope.originalContext = s.type == "linear" ? 0 : s.originalContext;
  if (s.type == "linear") {
    for (float &f : rope.frequencies)
      f = float(f / *s.factor);
    return rope;
  }
  if (s.type == "llama3") {
    if (!positive(s.lowFrequency) || !positive(s.highFrequency) ||
        s.highFrequency <= s.lowFrequency)
      return createStringError("rope: llama3 scaling needs 0 < low_freq_factor < high_freq_factor");
    scaleLlama3(rope.frequencies, s);
    return rope;
  }
  if (s.type == "yarn") {
    if (!positive(s.betaFast) || !positive(s.betaSlow))
      return createStringError("rope: yarn scaling needs positive beta_fast and beta_slow");
    scaleYarn(rope.frequencies, theta, dims, s);
    rope.betaFast = s.betaFast;
    rope.betaSlow = s.betaSlow;
    rope.truncate = s.truncate;
    rope.attentionFactor = float(s.attentionFactor.value_or(yarnAttention(s)));
  } else if (longrope) {
    rope.longFrequencies = rope.frequencies;
    if (Error e = divide(rope.frequencies, s.shortFactors, "short factors"))
      return std::move(e);
    if (Error e = divide(rope.longFrequencies, s.longFactors, "long factors"))
      return std::move(e);
    double derived = *s.factor <= 1
                         ? 1
                         : std::sqrt(1 + std::log(*s.factor) / std::log(double(s.originalContext)));
    rope.attentionFactor = float(s.attentionFactor.value_or(derived));
  } else {
    return createStringError("rope: unknown scaling type '" + s.type +
                             "'; known: default, linear, dynamic, llama3, yarn, longrope");
  }
  for (float frequency : rope.frequencies)
    if (!std::isfinite(frequency))
      return createStringError("rope: scaling of type '" + s.type +
                               "' with these parameters gives a frequency that is not finite");
  if (!positive(rope.attentionFactor))
    return createStringError("rope: the attention factor must be positive, found " +
                             std::to_string(rope.attentionFactor));
  return rope;
}

} // namespace quern::import
