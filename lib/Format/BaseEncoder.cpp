//===- BaseEncoder.cpp - Rounding values into codes and levels ------------===//
//
// Offsets first, then zeros, then scales, then codes; each from what the earlier
// ones hold after their own rounding. Where a single float scale allows it, the
// arithmetic is that of GGUF's tools.
//
//===----------------------------------------------------------------------===//
#include "BaseEncoder.h"
#include "quern/Format/Number.h"
#include "llvm/ADT/Twine.h"
#include <algorithm>
#include <cmath>

using namespace quern::format;

/// The offset puts the least value at the lowest code (0 for unsigned codes).
llvm::Error BaseEncoder::encodeOffsets() {
  rest = values;
  if (spec.offset.empty())
    return llvm::Error::success();
  std::vector<float> least(offsetGrid.size(), INFINITY), most(offsetGrid.size(), -INFINITY);
  forEachStretch(offsetGrid, [&](int64_t tile, int64_t first, int64_t count) {
    for (float value : values.slice(first, count)) {
      least[tile] = std::min(least[tile], value);
      most[tile] = std::max(most[tile], value);
    }
  });
  // Where scales are chosen by a search, so are the offsets of the same tiles.
  bool search = rounder.isInteger() && rounder.low() == 0 && !isSingleFloat(spec.offset) &&
                !spec.scale.empty() && spec.scale.back().tile == spec.offset.back().tile &&
                spec.zero.empty() && offsetGrid.tileRows == 1;
  if (search)
    forEachStretch(offsetGrid, [&](int64_t tile, int64_t first, int64_t count) {
      least[tile] = searchOffset(values.slice(first, count), least[tile], most[tile]);
    });
  std::vector<float> offsets;
  for (size_t i = 0; i < least.size(); ++i) {
    float offset = least[i];
    if (rounder.low() < 0) {
      // Halved before the subtraction, which could overflow otherwise.
      float half = most[i] / 2 - least[i] / 2;
      offset = least[i] - rounder.low() * (half / (rounder.high() / 2 - rounder.low() / 2));
    }
    offsets.push_back(spec.offsetSign < 0 ? -offset : offset);
    if (!canBeNegative(spec.offset))
      offsets.back() = std::max(offsets.back(), 0.0f);
  }
  std::vector<float> held = offsets;
  if (!encodeLevels(spec.offset, offsetGrid, out.offset, held))
    return overflow("an offset");
  // GGUF's tools round codes by the offset before it is rounded itself.
  if (!isSingleFloat(spec.offset))
    offsets = std::move(held);
  restStorage.resize(values.size());
  forEachStretch(offsetGrid, [&](int64_t tile, int64_t first, int64_t count) {
    float offset = spec.offsetSign < 0 ? -offsets[tile] : offsets[tile];
    for (int64_t i = first; i < first + count; ++i)
      restStorage[i] = values[i] - offset;
  });
  rest = restStorage;
  return llvm::Error::success();
}

/// The zero is the code that stands for 0, so that the least value gets the lowest code.
llvm::Error BaseEncoder::encodeZeros() {
  if (spec.zero.empty())
    return llvm::Error::success();
  std::vector<float> least(zeroGrid.size(), 0), most(zeroGrid.size(), 0);
  forEachStretch(zeroGrid, [&](int64_t tile, int64_t first, int64_t count) {
    for (float value : rest.slice(first, count)) {
      least[tile] = std::min(least[tile], value);
      most[tile] = std::max(most[tile], value);
    }
  });
  std::vector<float> zeros;
  for (size_t i = 0; i < least.size(); ++i) {
    float range = most[i] / 2 - least[i] / 2;
    float scale = range / (rounder.high() / 2 - rounder.low() / 2);
    bool centred = rounder.isInteger();
    zeros.push_back(centred && scale > 0 ? std::round(rounder.low() - least[i] / scale) : 0);
  }
  if (!encodeLevels(spec.zero, zeroGrid, out.zero, zeros))
    return overflow("a zero point");
  elementZeros.resize(values.size());
  forEachStretch(zeroGrid, [&](int64_t tile, int64_t first, int64_t count) {
    std::fill_n(&elementZeros[first], count, zeros[tile]);
  });
  return llvm::Error::success();
}

llvm::Error BaseEncoder::encodeScales() {
  if (spec.scale.empty())
    return llvm::Error::success();
  scales.resize(scaleGrid.size());
  int64_t width = rounder.width();
  // Tiles of one row are stretches as they are; others are gathered, row after row. Stretches
  // are filled up to whole indices, for vectors must not run across rows.
  std::vector<std::vector<float>> tileRest(scaleGrid.cols), tileZero(scaleGrid.cols);
  auto choose = [&](int64_t tile, llvm::ArrayRef<float> rest, llvm::ArrayRef<float> zero) {
    float limit = largestScale(zero);
    scales[tile] = std::clamp(chooseScale(rest, zero), -limit, limit);
  };
  forEachStretch(scaleGrid, [&](int64_t tile, int64_t first, int64_t count) {
    llvm::ArrayRef<float> restPart = rest.slice(first, count), zeroPart;
    if (!elementZeros.empty())
      zeroPart = llvm::ArrayRef(elementZeros).slice(first, count);
    if (scaleGrid.tileRows == 1 && count % width == 0) {
      choose(tile, restPart, zeroPart);
      return;
    }
    std::vector<float> &r = tileRest[tile % scaleGrid.cols], &z = tileZero[tile % scaleGrid.cols];
    r.insert(r.end(), restPart.begin(), restPart.end());
    z.insert(z.end(), zeroPart.begin(), zeroPart.end());
    r.resize((r.size() + width - 1) / width * width);
    if (!z.empty())
      z.resize(r.size(), z.back());
    int64_t row = first / out.cols;
    if (row + 1 == out.rows || scaleGrid.rowOf(row + 1) != scaleGrid.rowOf(row)) {
      choose(tile, r, z);
      r.clear();
      z.clear();
    }
  });
  std::vector<float> held = scales;
  if (!encodeLevels(spec.scale, scaleGrid, out.scale, held))
    return overflow("a scale");
  // GGUF's tools round codes by the scale before it is rounded itself.
  bool beforeRounding = (isSingleFloat(spec.scale) && rounder.isInteger()) || followsTernaryTools();
  if (!beforeRounding)
    scales = std::move(held);
  return llvm::Error::success();
}

/// 1/scale, or 0 for tiles that are all but zero (where it would overflow).
static float inverseOf(float scale) {
  float inverse = scale == 0 ? 0 : 1 / scale;
  return std::isfinite(inverse) ? inverse : 0;
}

llvm::Error BaseEncoder::encodeCodes() {
  if (spec.isPlain())
    return encodePlain();
  if (rounder.isInteger() && out.codes.elementBytes == 1) {
    // Integers by whole stretches; int8_t and uint8_t have the same bytes.
    std::vector<float> codes(out.cols);
    int64_t codesPerRow = out.codes.cols;
    forEachStretch(scaleGrid, [&](int64_t tile, int64_t first, int64_t count) {
      llvm::ArrayRef<float> zero;
      if (!elementZeros.empty())
        zero = llvm::ArrayRef(elementZeros).slice(first, count);
      rounder.roundIntegers(rest.slice(first, count), inverseOf(scaleOf(tile)), zero, codes.data());
      uint8_t *to = out.codes.data<uint8_t>() + first / out.cols * codesPerRow + first % out.cols;
      for (int64_t i = 0; i < count; ++i)
        to[i] = uint8_t(int32_t(codes[i]));
    });
    return llvm::Error::success();
  }
  int64_t width = rounder.width();
  const Number &number = spec.code.number;
  bool isSigned = spec.code.kind != Code::Kind::Table && number.kind == Number::Kind::Signed;
  float vector[64];
  std::vector<float> scratch;
  forEachStretch(scaleGrid, [&](int64_t tile, int64_t first, int64_t count) {
    float scale = scaleOf(tile), inverse = inverseOf(scale);
    int64_t row = first / out.cols, col = first % out.cols;
    for (int64_t i = 0; i < count; i += width) {
      for (int64_t j = 0; j < width; ++j)
        vector[j] = i + j < count ? rest[first + i + j] : 0;
      uint64_t raw = rounder.round(vector, scale, inverse, zeroAt(first + i), scratch);
      if (isSigned)
        raw = uint64_t(int64_t(raw << (64 - number.bits)) >> (64 - number.bits));
      out.codes.set(row, (col + i) / width, raw);
    }
  });
  return llvm::Error::success();
}

/// Numbers without levels must fit their type as they are.
llvm::Error BaseEncoder::encodePlain() {
  const Number &number = spec.code.number;
  float largest = maxValue(number), smallest = minValue(number);
  for (size_t i = 0; i < values.size(); ++i) {
    uint64_t raw = encodeNumber(number, values[i]);
    bool fits = values[i] <= largest && values[i] >= smallest;
    // Integers may round to their largest; floats overflow only beyond half a step.
    if (!fits &&
        (number.bits < 16 || !std::isfinite(decodeNumber(number, raw)) || !number.isFloat()))
      return llvm::createStringError(
          "tensor '" + tensor + "' [" + llvm::Twine(out.firstRow + int64_t(i) / out.cols) + ", " +
          llvm::Twine(int64_t(i) % out.cols) + "]: " + std::to_string(values[i]) +
          " does not fit " + print(number));
    if (number.kind == Number::Kind::Signed)
      raw = uint64_t(int64_t(raw << (64 - number.bits)) >> (64 - number.bits));
    out.codes.set(int64_t(i) / out.cols, int64_t(i) % out.cols, raw);
  }
  return llvm::Error::success();
}

llvm::Error quern::format::encodeBase(const Spec &spec, llvm::ArrayRef<float> values,
                                      Components &out, llvm::StringRef tensor) {
  return BaseEncoder(spec, values, out, tensor).run();
}
