//===- Activations.cpp - How activations are rounded before a product -----===//
//
// See the header for the definition; this is its plainest transcription.
//
//===----------------------------------------------------------------------===//
#include "quern/Reference/Activations.h"
#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>

using namespace quern::reference;

float quern::reference::groupAbsMax(std::span<const float> x) {
  uint32_t bits = smallestAbsMaxBits;
  for (float value : x)
    bits = std::max(bits, std::bit_cast<uint32_t>(value) & 0x7fffffffu);
  return std::bit_cast<float>(bits);
}

float quern::reference::quantizeGroup(std::span<const float> x, std::span<int8_t> codes) {
  assert(codes.size() == x.size());
  float absMax = groupAbsMax(x);
  float inverse = 127.0f / absMax;
  for (size_t i = 0; i < x.size(); ++i) {
    // nearbyint rounds ties to even in the default rounding mode, as cvtps2dq does.
    float scaled = std::nearbyint(x[i] * inverse);
    codes[i] = std::isfinite(scaled) ? static_cast<int8_t>(scaled) : 0;
  }
  return absMax / 127.0f;
}

void quern::reference::quantizeRow(std::span<const float> x, int64_t groupSize,
                                   std::span<int8_t> codes, std::span<float> scales) {
  size_t group = groupSize;
  assert(group > 0 && codes.size() == x.size());
  assert(scales.size() == (x.size() + group - 1) / group);
  for (size_t g = 0; g < scales.size(); ++g) {
    size_t begin = g * group, count = std::min(group, x.size() - begin);
    scales[g] = quantizeGroup(x.subspan(begin, count), codes.subspan(begin, count));
  }
}

void quern::reference::quantizeRow(std::span<const float> x, StaticScale constants,
                                   std::span<int8_t> codes) {
  assert(codes.size() == x.size());
  float inverse = 1.0f / constants.scale;
  float low = float(-127 - constants.zero), high = float(127 - constants.zero);
  for (size_t i = 0; i < x.size(); ++i) {
    float rounded = std::nearbyint(x[i] * inverse);
    rounded = rounded > low ? rounded : low; // NaN is not
    rounded = rounded < high ? rounded : high;
    codes[i] = static_cast<int8_t>(static_cast<int32_t>(rounded) + constants.zero);
  }
}

std::vector<double> quern::reference::roundActivations(std::span<const float> x,
                                                       StaticScale constants) {
  std::vector<int8_t> codes(x.size());
  quantizeRow(x, constants, codes);
  std::vector<double> result(x.size());
  std::transform(codes.begin(), codes.end(), result.begin(),
                 [&](int8_t code) { return double(code) * double(constants.scale); });
  return result;
}

std::vector<double> quern::reference::roundActivations(std::span<const float> x,
                                                       ActivationFormat format) {
  std::vector<double> result(x.begin(), x.end());
  switch (format) {
  case ActivationFormat::F32:
    break;
  case ActivationFormat::BF16:
    std::transform(x.begin(), x.end(), result.begin(), roundToBF16);
    break;
  case ActivationFormat::Q8:
  case ActivationFormat::Int8: {
    size_t group =
        format == ActivationFormat::Q8 ? size_t(q8GroupSize) : std::max<size_t>(x.size(), 1);
    std::vector<int8_t> codes(x.size());
    std::vector<float> scales((x.size() + group - 1) / group);
    quantizeRow(x, group, codes, scales);
    for (size_t i = 0; i < x.size(); ++i)
      result[i] = double(codes[i]) * double(scales[i / group]);
    break;
  }
  }
  return result;
}

float quern::reference::roundToBF16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value))
    return std::bit_cast<float>((bits | 0x00400000u) & 0xffff0000u);
  // Adding half of the dropped part, less one when the kept part is even, rounds ties to even.
  bits += 0x7fffu + ((bits >> 16) & 1u);
  return std::bit_cast<float>(bits & 0xffff0000u);
}

float quern::reference::roundToF16(float value) {
  float magnitude = std::fabs(value);
  if (!(magnitude < 65520.0f)) // halfway between the largest f16 and the next power of two
    return std::isnan(value) ? value : std::copysign(INFINITY, value);
  // f16 has 11 significant bits, and steps of 2^-24 below 2^-14.
  int exponent;
  std::frexp(magnitude, &exponent);
  float step = std::ldexp(1.0f, std::max(exponent - 11, -24));
  return std::copysign(std::nearbyint(magnitude / step) * step, value);
}
