//===- Encode.cpp - Rounding real matrices into a format ------------------===//
//
// Offsets first, then zeros, then scales, then codes; each from what the earlier
// ones hold after their own rounding. Where a single float scale allows it, the
// arithmetic is that of GGUF's tools.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Encode.h"
#include "CodeRounder.h"
#include "LearnedTable.h"
#include "LevelEncoder.h"
#include "quern/Format/Number.h"
#include "llvm/ADT/Twine.h"
#include <algorithm>
#include <cmath>
#include <limits>

using namespace quern::format;

namespace {
class BaseEncoder {
public:
  BaseEncoder(const Spec &spec, llvm::ArrayRef<float> values, Components &out,
              llvm::StringRef tensor)
      : spec(spec), values(values), out(out), tensor(tensor), rounder(spec.code),
        scaleGrid(spec.scale, out), offsetGrid(spec.offset, out), zeroGrid(spec.zero, out) {}

  llvm::Error run() {
    if (llvm::Error error = encodeOffsets())
      return error;
    if (llvm::Error error = encodeZeros())
      return error;
    if (llvm::Error error = encodeScales())
      return error;
    return encodeCodes();
  }

private:
  float zeroAt(int64_t i) const { return elementZeros.empty() ? 0 : elementZeros[i]; }

  /// Calls visit(tile, first, count) for every stretch of elements of a row within one tile.
  template <typename Visit> void forEachStretch(const TileGrid &grid, const Visit &visit) const {
    int64_t width = grid.tileCols == 0 ? out.cols : grid.tileCols;
    for (int64_t row = 0; row < out.rows; ++row)
      for (int64_t col = 0; col < out.cols; col += width)
        visit(grid.indexOf(row, col), row * out.cols + col, std::min(width, out.cols - col));
  }

  llvm::Error overflow(llvm::StringRef what) const {
    return llvm::createStringError("tensor '" + tensor + "': " + what + " does not fit '" +
                                   print(spec) + "'");
  }

  llvm::Error encodeOffsets();
  llvm::Error encodeZeros();
  llvm::Error encodeScales();
  llvm::Error encodeCodes();
  llvm::Error encodePlain();
  float scaleOf(int64_t tile) const { return spec.scale.empty() ? 1 : scales[tile]; }
  float chooseScale(llvm::ArrayRef<float> rest, llvm::ArrayRef<float> zero) const;
  float searchOffset(llvm::ArrayRef<float> values, float least, float most) const;
  float largestScale(llvm::ArrayRef<float> zero) const;
  bool followsTernaryTools() const;
  float searchScale(llvm::ArrayRef<float> rest, llvm::ArrayRef<float> zero, float start) const;

  const Spec &spec;
  llvm::ArrayRef<float> values;
  Components &out;
  llvm::StringRef tensor;
  CodeRounder rounder;
  TileGrid scaleGrid, offsetGrid, zeroGrid;
  std::vector<float> scales;       ///< per tile, as used by the codes
  llvm::ArrayRef<float> rest;      ///< values less their offsets: what the codes have to express
  std::vector<float> restStorage;  ///< of `rest`, if there is an offset
  std::vector<float> elementZeros; ///< the zero of each element; empty if there is none
};
} // namespace

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
  llvm::ArrayRef<float> factors = fine;
  if (rounder.isVector())
    factors = coarse;
  else if (spec.code.bitsPerIndex() <= 2)
    factors = few;
  CodeRounder::Fit best = {start, INFINITY};
  for (float factor : factors) {
    CodeRounder::Fit fit = rounder.fit(rest, zero, start * factor);
    if (fit.error < best.error && (fit.scale > 0 || canBeNegative(spec.scale)))
      best = fit;
  }
  return best.scale;
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

/// Slices must hold whole tiles, or scales of different slices would contradict each other.
static llvm::Error checkTileRows(const Spec &spec, int64_t firstRow) {
  for (const auto *levels : {&spec.scale, &spec.offset, &spec.zero})
    for (const Level &level : *levels)
      if (level.tile.rows == 0 ? firstRow != 0 : firstRow % level.tile.rows != 0)
        return llvm::createStringError("encode: row " + llvm::Twine(firstRow) +
                                       " starts no tile of '" + print(spec) + "'");
  return llvm::Error::success();
}

/// Fits the table, then rounds to it as to one spelled out.
static llvm::Error encodeLearned(const Spec &spec, llvm::ArrayRef<float> values, Components &out,
                                 llvm::StringRef tensor) {
  out.table = learnTable(spec, values, out);
  for (float entry : out.table)
    if (!std::isfinite(entry))
      return llvm::createStringError("tensor '" + tensor +
                                     "': an entry of the table does not fit '" +
                                     print(spec.code.table.entryNumber) + "'");
  Spec fitted = spec;
  fitted.code.table.entries = out.table;
  return BaseEncoder(fitted, values, out, tensor).run();
}

static llvm::Error encodeAny(const Spec &spec, llvm::ArrayRef<float> values, Components &out,
                             llvm::StringRef tensor) {
  if (spec.kind == Spec::Kind::Base) {
    if (llvm::Error error = checkTileRows(spec, out.firstRow))
      return error;
    if (spec.code.kind == Code::Kind::Table && spec.code.table.isLearned())
      return encodeLearned(spec, values, out, tensor);
    return BaseEncoder(spec, values, out, tensor).run();
  }
  if (spec.kind == Spec::Kind::Split)
    return llvm::createStringError("tensor '" + tensor + "': '" + print(spec) +
                                   "' needs a choice of columns");
  // Each term takes what the earlier ones left.
  std::vector<float> rest(values.begin(), values.end()), part(values.size());
  for (size_t t = 0; t < spec.terms.size(); ++t) {
    if (llvm::Error error = encodeAny(spec.terms[t], rest, out.terms[t], tensor))
      return error;
    if (llvm::Error error = decode(spec.terms[t], out.terms[t], part))
      return error;
    for (size_t i = 0; i < rest.size(); ++i)
      rest[i] = rest[i] - part[i];
  }
  return llvm::Error::success();
}

llvm::Error quern::format::encode(const Spec &spec, llvm::ArrayRef<float> values, int64_t rows,
                                  int64_t cols, Components &out, llvm::StringRef tensor,
                                  int64_t firstRow) {
  if (llvm::Error error = validate(spec))
    return error;
  if (rows < 0 || cols < 0 || firstRow < 0)
    return llvm::createStringError("encode: a negative number of rows or columns");
  if (llvm::Expected<uint64_t> size = storedBytes(Spec::plain(Number()), {rows, cols}); !size)
    return size.takeError();
  if (values.size() != uint64_t(rows) * uint64_t(cols))
    return llvm::createStringError("encode: " + llvm::Twine(uint64_t(values.size())) +
                                   " values for " + llvm::Twine(rows) + "x" + llvm::Twine(cols));
  for (size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i]))
      return llvm::createStringError(
          "tensor '" + tensor + "' [" + llvm::Twine(firstRow + int64_t(i) / cols) + ", " +
          llvm::Twine(int64_t(i) % cols) + "]: " + (std::isnan(values[i]) ? "NaN" : "infinity") +
          " cannot be encoded");
  if (spec.kind == Spec::Kind::Split)
    return encodeAny(spec, values, out, tensor);
  allocate(spec, firstRow, rows, cols, out);
  return encodeAny(spec, values, out, tensor);
}
