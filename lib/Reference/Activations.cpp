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

float quern::reference::quantizeGroup(std::span<const float> x, std::span<int8_t> codes,
                                      int largestCode) {
  assert(codes.size() == x.size());
  float absMax = groupAbsMax(x);
  float inverse = float(largestCode) / absMax;
  for (size_t i = 0; i < x.size(); ++i) {
    // nearbyint rounds ties to even in the default rounding mode, as cvtps2dq does.
    float scaled = std::nearbyint(x[i] * inverse);
    codes[i] = std::isfinite(scaled) ? static_cast<int8_t>(scaled) : 0;
  }
  return absMax / float(largestCode);
}

void quern::reference::quantizeRow(std::span<const float> x, int64_t groupSize,
                                   std::span<int8_t> codes, std::span<float> scales,
                                   int largestCode) {
  size_t group = groupSize;
  assert(group > 0 && codes.size() == x.size());
  assert(scales.size() == (x.size() + group - 1) / group);
  for (size_t g = 0; g < scales.size(); ++g) {
    size_t begin = g * group, count = std::min(group, x.size() - begin);
    scales[g] = quantizeGroup(x.subspan(begin, count), codes.subspan(begin, count), largestCode);
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
                                                       StaticScale constants, Kept kept) {
  std::vector<double> result(x.begin(), x.end());
  std::vector<float> rest(x.begin() + kept.columns, x.end());
  auto isOutlier = [&](float value) { return std::fabs(value) >= kept.from; };
  std::replace_if(rest.begin(), rest.end(), isOutlier, 0.0f);
  std::vector<int8_t> codes(rest.size());
  quantizeRow(rest, constants, codes);
  for (size_t i = 0; i < rest.size(); ++i) {
    float value = x[kept.columns + i];
    result[kept.columns + i] =
        double(codes[i]) * double(constants.scale) + (isOutlier(value) ? double(value) : 0.0);
  }
  return result;
}

std::vector<double> quern::reference::roundActivations(std::span<const float> x,
                                                       ActivationFormat format, Kept kept) {
  std::vector<double> result(x.begin(), x.end());
  switch (format) {
  case ActivationFormat::F32:
    break;
  case ActivationFormat::BF16:
    std::transform(x.begin(), x.end(), result.begin(), roundToBF16);
    break;
  case ActivationFormat::Q8:
  case ActivationFormat::Q4:
  case ActivationFormat::Int8:
  case ActivationFormat::Int4: {
    bool inGroups = format == ActivationFormat::Q8 || format == ActivationFormat::Q4;
    bool isNarrow = format == ActivationFormat::Q4 || format == ActivationFormat::Int4;
    size_t first = inGroups ? 0 : size_t(kept.columns);
    std::vector<float> rest(x.begin() + first, x.end());
    auto isOutlier = [&](float value) { return std::fabs(value) >= kept.from; };
    std::replace_if(rest.begin(), rest.end(), isOutlier, 0.0f);
    size_t group = inGroups ? size_t(q8GroupSize) : std::max<size_t>(rest.size(), 1);
    std::vector<int8_t> codes(rest.size());
    std::vector<float> scales((rest.size() + group - 1) / group);
    quantizeRow(rest, group, codes, scales, isNarrow ? largestCode4 : largestCode8);
    for (size_t i = 0; i < rest.size(); ++i)
      if (!isOutlier(x[first + i]))
        result[first + i] = double(codes[i]) * double(scales[i / group]);
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
