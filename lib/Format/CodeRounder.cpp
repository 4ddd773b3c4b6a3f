//===- CodeRounder.cpp - Rounding values to codes -------------------------===//
//
// Integers round by arithmetic that matches GGUF's tools operation for operation;
// everything else takes the nearest of what the code can stand for.
//
//===----------------------------------------------------------------------===//
#include "CodeRounder.h"
#include "quern/Format/Number.h"
#include <algorithm>
#include <bit>
#include <cmath>

using namespace quern::format;

CodeRounder::CodeRounder(const Code &code) : code(code) {
  switch (code.kind) {
  case Code::Kind::Number:
    lowest = minValue(code.number);
    highest = maxValue(code.number);
    return;
  case Code::Kind::Sign:
  case Code::Kind::Ternary:
    lowest = -1;
    highest = 1;
    return;
  case Code::Kind::Pow2:
  case Code::Kind::Power:
    for (uint64_t raw = 0; raw < uint64_t(1) << code.number.bits; ++raw)
      entries.push_back(decodeCode(code, raw));
    break;
  case Code::Kind::Table: {
    const Table &table = code.table;
    entries.assign(table.values().begin(), table.values().end());
    for (size_t e = 0; e < entries.size(); e += table.dim) {
      float norm = 0;
      for (unsigned i = 0; i < table.dim; ++i)
        norm += entries[e + i] * entries[e + i];
      norms.push_back(norm);
    }
    break;
  }
  }
  if (!entries.empty()) {
    lowest = *std::min_element(entries.begin(), entries.end());
    highest = *std::max_element(entries.begin(), entries.end());
  }
  if (code.kind == Code::Kind::Table && code.table.signs != Table::Signs::None) {
    highest = std::max(highest, -lowest);
    lowest = -highest;
  }
}

float CodeRounder::scaleFor(llvm::ArrayRef<float> values, bool signedScale) const {
  // The first of equals, a signed zero included: GGUF's tools keep its sign.
  float extreme = values.empty() ? 0 : values.front(), sum = 0;
  for (float v : values) {
    sum += std::fabs(v);
    if (std::fabs(v) > std::fabs(extreme))
      extreme = v;
  }
  float magnitude = std::fabs(extreme);
  if (code.kind == Code::Kind::Sign)
    return values.empty() ? 0 : sum / float(values.size());
  if (code.kind == Code::Kind::Number && code.number.isFloat())
    return code.number.bits < 16 ? magnitude / highest : 1;
  bool symmetric = -lowest == highest || (isInteger() && code.number.bits >= 8 && lowest < 0);
  if (symmetric)
    return magnitude / highest;
  if (signedScale)
    return extreme / (-lowest > highest ? lowest : highest);
  // A positive scale: both ends must fit, as far as the code has them.
  float scale = 0;
  for (float v : values) {
    if (v > 0 && highest > 0)
      scale = std::max(scale, v / highest);
    if (v < 0 && lowest < 0)
      scale = std::max(scale, v / lowest);
  }
  return scale;
}

uint64_t CodeRounder::roundInteger(float scaled) const {
  unsigned bits = code.number.bits;
  float rounded;
  if (code.number.kind == Number::Kind::Unsigned)
    rounded = std::floor(scaled + 0.5f);
  else if (bits < 8)
    rounded = std::floor(scaled + (0.5f - lowest)) + lowest;
  else
    rounded = std::round(scaled);
  return encodeNumber(code.number, std::clamp(rounded, lowest, highest));
}

/// Nearest of at most a few hundred scalar entries.
uint64_t CodeRounder::roundEntry(const float *value, float scale, float zero) const {
  uint64_t best = 0;
  float least = INFINITY;
  for (size_t e = 0; e < entries.size(); ++e) {
    float error = std::fabs(scale * (entries[e] - zero) - *value);
    if (error < least) {
      least = error;
      best = e;
    }
  }
  return best;
}

/// Nearest table entry for each part, in units of the scale; signs are chosen first.
uint64_t CodeRounder::roundVector(const float *values, float inverse, float zero) const {
  const Table &table = code.table;
  unsigned count = width();
  float scaled[64];
  uint64_t signs = 0;
  for (unsigned i = 0; i < count; ++i) {
    scaled[i] = values[i] * inverse + zero;
    if (table.signs != Table::Signs::None && std::signbit(scaled[i])) {
      signs |= uint64_t(1) << i;
      scaled[i] = -scaled[i];
    }
  }
  if (table.signs == Table::Signs::Parity) {
    // An odd number of signs costs the smallest value its own.
    if (std::popcount(signs) & 1) {
      unsigned least = std::min_element(scaled, scaled + count) - scaled;
      signs ^= uint64_t(1) << least;
      scaled[least] = -scaled[least];
    }
    signs &= (uint64_t(1) << (count - 1)) - 1;
  }
  uint64_t raw = signs << (table.parts * table.indexBits);
  for (unsigned part = 0; part < table.parts; ++part) {
    const float *v = scaled + part * table.dim;
    uint64_t best = 0;
    float least = INFINITY;
    for (size_t e = 0; e < norms.size(); ++e) {
      float dot = 0;
      for (unsigned i = 0; i < table.dim; ++i)
        dot += v[i] * entries[e * table.dim + i];
      float distance = norms[e] - 2 * dot;
      if (distance < least) {
        least = distance;
        best = e;
      }
    }
    raw |= best << (part * table.indexBits);
  }
  return raw;
}

uint64_t CodeRounder::round(const float *values, float scale, float inverse, float zero) const {
  switch (code.kind) {
  case Code::Kind::Number:
    if (code.number.isFloat()) {
      // Plain floats keep the sign of zero and may overflow (which the caller reports).
      if (scale == 1 && zero == 0)
        return encodeNumber(code.number, *values);
      return encodeNumber(code.number, std::clamp(*values * inverse + zero, lowest, highest));
    }
    return roundInteger(*values * inverse + zero);
  case Code::Kind::Sign:
    return std::signbit(scale) ? *values < 0 : *values >= 0;
  case Code::Kind::Ternary:
    return uint64_t(std::clamp(std::round(*values * inverse + zero), -1.0f, 1.0f) + 1);
  case Code::Kind::Pow2:
  case Code::Kind::Power:
    return roundEntry(values, scale, zero);
  case Code::Kind::Table:
    if (width() == 1 && code.table.signs == Table::Signs::None)
      return roundEntry(values, scale, zero);
    return roundVector(values, inverse, zero);
  }
  return 0;
}

void CodeRounder::decode(uint64_t raw, float scale, float zero, float *out) const {
  decodeIndex(code, {}, raw, out);
  for (unsigned i = 0; i < width(); ++i)
    out[i] = (out[i] - zero) * scale;
}
