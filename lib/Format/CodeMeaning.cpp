//===- CodeMeaning.cpp - Codes as integers, where they are ----------------===//
//
// Finds by trial what values a code has: formats say how to decode, not that they are linear.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/CodeMeaning.h"
#include "quern/Format/Number.h"
#include "llvm/ADT/STLExtras.h"
#include <cmath>
#include <optional>

using namespace llvm;
using namespace quern::format;

static bool isMultipleOfHalf(double value) {
  return value * 2 == std::nearbyint(value * 2) && std::fabs(value) <= 512;
}

/// Finds a power of two of which all values are multiples by integers in [low, high].
static std::optional<float> commonStep(ArrayRef<float> values, int low, int high) {
  for (int exponent = -10; exponent <= 10; ++exponent) {
    float multiplier = std::ldexp(1.0f, -exponent);
    if (llvm::all_of(values, [&](float value) {
          double scaled = double(value) / multiplier;
          return scaled == std::nearbyint(scaled) && scaled >= low && scaled <= high;
        }))
      return multiplier;
  }
  return std::nullopt;
}

CodeMeaning CodeMeaning::of(const PackedLayout &layout) {
  CodeMeaning result;
  if (layout.storage == CodeStorage::Indices) {
    const Table &table = layout.spec.code.table;
    if (table.isLearned() || table.dim % 4 != 0)
      return result;
    // Signs may negate every entry.
    if (auto multiplier = commonStep(table.values(), -127, 127)) {
      result.kind = Kind::Grid;
      result.multiplier = *multiplier;
      for (float value : table.values())
        result.integers.push_back(int8_t(value / *multiplier));
    }
    return result;
  }
  if (layout.storage != CodeStorage::Planes && layout.storage != CodeStorage::Digits)
    return result;
  const Code &code = layout.spec.code;
  unsigned bits = code.bitsPerIndex();
  uint64_t sign = layout.codesAreBiased() ? uint64_t(1) << (bits - 1) : 0;
  for (uint64_t pattern = 0; pattern < (uint64_t(1) << bits); ++pattern) {
    float value = 0;
    if (code.kind == Code::Kind::Table) {
      if (code.table.isLearned())
        return result;
      decodeIndex(code, {}, pattern, &value);
    } else {
      value = decodeCode(code, pattern ^ sign);
    }
    result.values.push_back(value);
  }
  ArrayRef<float> values = result.values;
  if (!llvm::all_of(values, [](float value) { return std::isfinite(value); }))
    return result;

  double slope = double(values[1]) - values[0];
  bool affine = slope != 0 && float(slope) == slope && isMultipleOfHalf(-values[0] / slope);
  for (size_t i = 0; affine && i < values.size(); ++i)
    affine = double(values[0]) + slope * double(i) == values[i];
  if (affine) {
    result.kind = Kind::Affine;
    result.multiplier = float(slope);
    result.bias = float(-values[0] / slope);
    return result;
  }
  if (bits > 6)
    return result;
  if (auto multiplier = commonStep(values, -128, 127)) {
    result.kind = Kind::Lookup;
    result.multiplier = *multiplier;
    for (float value : values)
      result.integers.push_back(int8_t(value / *multiplier));
  }
  return result;
}

bool quern::format::hasIntegerProducts(const PackedLayout &layout) {
  if (!layout.terms.empty())
    return llvm::all_of(layout.terms, hasIntegerProducts);
  return CodeMeaning::of(layout).isInteger() &&
         llvm::all_of(layout.levels,
                      [](const PackedLevel &level) { return level.groupColumns % 8 == 0; });
}

/// Bits spent on a weight's code, all terms of a sum together.
static unsigned codeBits(const PackedLayout &layout) {
  unsigned bits = 0;
  for (const PackedLayout &term : layout.terms)
    bits += codeBits(term);
  if (layout.terms.empty() && layout.storage == CodeStorage::Planes)
    bits = layout.spec.code.bitsPerIndex();
  return bits;
}

bool quern::format::prefersInt8Activations(const PackedLayout &layout) {
  return hasIntegerProducts(layout) && codeBits(layout) < 8;
}
