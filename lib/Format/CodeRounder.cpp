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
#include <tuple>

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
  case Code::Kind::Table:
    entries.assign(code.table.values().begin(), code.table.values().end());
    break;
  }
  if (code.kind == Code::Kind::Table && isVector()) {
    size_t dim = code.table.dim, count = entries.size() / dim;
    transposed.resize(entries.size());
    norms.resize(count);
    for (size_t e = 0; e < count; ++e)
      for (size_t i = 0; i < dim; ++i) {
        transposed[i * count + e] = entries[e * dim + i];
        norms[e] += entries[e * dim + i] * entries[e * dim + i];
      }
  } else {
    for (uint32_t e = 0; e < entries.size(); ++e)
      sortedIndex.push_back(e);
    auto less = [&](uint32_t a, uint32_t b) {
      return std::tie(entries[a], a) < std::tie(entries[b], b);
    };
    auto same = [&](uint32_t a, uint32_t b) { return entries[a] == entries[b]; };
    std::sort(sortedIndex.begin(), sortedIndex.end(), less);
    sortedIndex.erase(std::unique(sortedIndex.begin(), sortedIndex.end(), same), sortedIndex.end());
    for (uint32_t e : sortedIndex)
      sorted.push_back(entries[e]);
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

/// Truncation serves as floor where values are clamped to be positive first, and it vectorizes.
void CodeRounder::roundIntegers(llvm::ArrayRef<float> values, float inverse,
                                llvm::ArrayRef<float> zeros, float *codes) const {
  size_t n = values.size();
  float low = lowest, range = highest - lowest;
  for (size_t i = 0; i < n; ++i)
    codes[i] = values[i] * inverse;
  if (!zeros.empty())
    for (size_t i = 0; i < n; ++i)
      codes[i] = codes[i] + zeros[i];
  if (code.number.bits > 16) {
    for (size_t i = 0; i < n; ++i)
      codes[i] = std::clamp(std::nearbyint(codes[i]), lowest, highest);
    return;
  }
  if (code.number.kind == Number::Kind::Signed && code.number.bits >= 8) {
    for (size_t i = 0; i < n; ++i) {
      float v = std::min(std::max(codes[i], lowest), highest);
      float whole = float(int32_t(v)), rest = v - whole;
      codes[i] = whole + (rest >= 0.5f ? 1.0f : 0.0f) - (rest <= -0.5f ? 1.0f : 0.0f);
    }
    return;
  }
  float shift = 0.5f - low; // exact, and 0.5 for unsigned codes
  for (size_t i = 0; i < n; ++i) {
    float v = std::min(std::max(codes[i] + shift, 0.0f), range);
    codes[i] = float(int32_t(v)) + low;
  }
}

/// Nearest scalar entry. Errors are compared as rounded to f32, and the first of equals wins.
uint64_t CodeRounder::roundEntry(const float *value, float scale, float zero) const {
  float unit = scale == 0 ? 0 : *value / scale + zero;
  size_t above = 0;
  if (sorted.size() <= 16)
    for (float entry : sorted)
      above += entry <= unit;
  else
    above = std::upper_bound(sorted.begin(), sorted.end(), unit) - sorted.begin();
  // The two around it, and one more on each side for the rounding of `unit`.
  size_t begin = above < 2 ? 0 : above - 2, end = std::min(above + 2, sorted.size());
  if (scale == 0)
    begin = 0, end = sorted.size();
  uint64_t best = sortedIndex[begin];
  float least = INFINITY;
  for (size_t i = begin; i < end; ++i) {
    float error = std::fabs(scale * (sorted[i] - zero) - *value);
    if (error < least || (error == least && sortedIndex[i] < best)) {
      least = error;
      best = sortedIndex[i];
    }
  }
  return best;
}

/// Nearest table entry for each part, in units of the scale; signs are chosen first.
uint64_t CodeRounder::roundVector(const float *values, float inverse, float zero,
                                  std::vector<float> &scratch) const {
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
    // |entry|^2 - 2 entry.v for every entry, a loop over entries for each value.
    size_t count = norms.size();
    std::vector<float> &distance = scratch;
    distance.assign(norms.begin(), norms.end());
    for (unsigned i = 0; i < table.dim; ++i) {
      const float *column = &transposed[i * count];
      float twice = 2 * v[i];
      for (size_t e = 0; e < count; ++e)
        distance[e] = distance[e] - twice * column[e];
    }
    uint64_t best = std::min_element(distance.begin(), distance.end()) - distance.begin();
    raw |= best << (part * table.indexBits);
  }
  return raw;
}

uint64_t CodeRounder::round(const float *values, float scale, float inverse, float zero,
                            std::vector<float> &scratch) const {
  switch (code.kind) {
  case Code::Kind::Number: {
    if (code.number.isFloat()) {
      // Plain floats keep the sign of zero and may overflow (which the caller reports).
      if (scale == 1 && zero == 0)
        return encodeNumber(code.number, *values);
      return encodeNumber(code.number, std::clamp(*values * inverse + zero, lowest, highest));
    }
    float rounded;
    roundIntegers(llvm::ArrayRef(values, 1), inverse, llvm::ArrayRef(&zero, 1), &rounded);
    return encodeNumber(code.number, rounded);
  }
  case Code::Kind::Sign:
    return std::signbit(scale) ? *values < 0 : *values >= 0;
  case Code::Kind::Ternary:
    return uint64_t(std::clamp(std::round(*values * inverse + zero), -1.0f, 1.0f) + 1);
  case Code::Kind::Pow2:
  case Code::Kind::Power:
    return roundEntry(values, scale, zero);
  case Code::Kind::Table:
    return isVector() ? roundVector(values, inverse, zero, scratch)
                      : roundEntry(values, scale, zero);
  }
  return 0;
}

/// What the nearest of a few scalar entries are, in units of the scale: one pass over the values
/// for each entry, which vectorizes. Ties do not matter where errors are only summed.
void CodeRounder::nearestEntries(llvm::ArrayRef<float> values, float inverse,
                                 llvm::ArrayRef<float> zeros, float *units) const {
  size_t n = values.size();
  std::vector<float> scaled(n);
  for (size_t i = 0; i < n; ++i)
    scaled[i] = values[i] * inverse;
  if (!zeros.empty())
    for (size_t i = 0; i < n; ++i)
      scaled[i] = scaled[i] + zeros[i];
  std::fill_n(units, n, sorted[0]);
  for (size_t e = 1; e < sorted.size(); ++e) {
    float middle = (sorted[e - 1] + sorted[e]) / 2, entry = sorted[e];
    for (size_t i = 0; i < n; ++i)
      units[i] = scaled[i] > middle ? entry : units[i];
  }
}

CodeRounder::Fit CodeRounder::fit(llvm::ArrayRef<float> values, llvm::ArrayRef<float> zeros,
                                  float scale) const {
  float inverse = 1 / scale;
  if (scale == 0 || !std::isfinite(inverse))
    return {scale, INFINITY};
  std::vector<float> units(values.size()), scratch;
  if (isInteger()) {
    roundIntegers(values, inverse, zeros, units.data());
  } else if (!sorted.empty() && sorted.size() <= 16) {
    nearestEntries(values, inverse, zeros, units.data());
  } else {
    unsigned n = width();
    llvm::ArrayRef<float> table;
    if (code.kind == Code::Kind::Table)
      table = entries;
    for (size_t i = 0; i + n <= values.size(); i += n) {
      uint64_t raw = round(&values[i], scale, inverse, zeros.empty() ? 0 : zeros[i], scratch);
      if (code.kind == Code::Kind::Table)
        decodeEntry(code.table, table, raw, &units[i]);
      else
        units[i] = decodeCode(code, raw);
    }
  }
  if (!zeros.empty())
    for (size_t i = 0; i < units.size(); ++i)
      units[i] = units[i] - zeros[i];
  // Eight sums each, so that the order is fixed and the loop vectorizes. In units of the scale,
  // for squares of the values themselves may overflow or vanish.
  float dots[8] = {}, squares[8] = {}, norms[8] = {};
  size_t n = values.size();
  for (size_t i = 0; i < n; i += 8)
    for (size_t j = 0; j < std::min<size_t>(8, n - i); ++j) {
      float v = values[i + j] * inverse;
      dots[j] += v * units[i + j];
      squares[j] += units[i + j] * units[i + j];
      norms[j] += v * v;
    }
  double dot = 0, square = 0, norm = 0;
  for (int j = 0; j < 8; ++j) {
    dot += dots[j];
    square += squares[j];
    norm += norms[j];
  }
  if (square == 0)
    return {scale, INFINITY};
  double factor = dot / square;
  return {float(factor * scale), (norm - factor * dot) * double(scale) * double(scale)};
}
