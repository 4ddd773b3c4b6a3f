//===- Encode.cpp - Rounding real matrices into a format ------------------===//
//
// Offsets first, then zeros, then scales, then codes; each from what the earlier
// ones hold after their own rounding. Where a single float scale allows it, the
// arithmetic is that of GGUF's tools.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Encode.h"
#include "CodeRounder.h"
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
  float valueAt(int64_t row, int64_t col) const { return values[row * out.cols + col]; }

  /// What the code has to express at an element: the value less its offset.
  float restAt(int64_t row, int64_t col) const {
    float value = valueAt(row, col);
    if (spec.offset.empty())
      return value;
    float offset = offsets[offsetGrid.indexOf(row, col)];
    return spec.offsetSign < 0 ? value + offset : value - offset;
  }

  float zeroAt(int64_t row, int64_t col) const {
    return spec.zero.empty() ? 0 : zeros[zeroGrid.indexOf(row, col)];
  }

  /// Calls visit(tile, row, firstCol, endCol) for every stretch of a row within one tile.
  template <typename Visit> void forEachStretch(const TileGrid &grid, const Visit &visit) const {
    int64_t width = grid.tileCols == 0 ? out.cols : grid.tileCols;
    for (int64_t row = 0; row < out.rows; ++row)
      for (int64_t col = 0; col < out.cols; col += width)
        visit(grid.indexOf(row, col), row, col, std::min(col + width, out.cols));
  }

  llvm::Error overflow(llvm::StringRef what) const {
    return llvm::createStringError("tensor '" + tensor + "': " + what + " does not fit '" +
                                   print(spec) + "'");
  }

  llvm::Error encodeOffsets();
  llvm::Error encodeZeros();
  llvm::Error encodeScales();
  llvm::Error encodeCodes();
  float chooseScale(llvm::ArrayRef<float> rest, llvm::ArrayRef<float> zero) const;
  float largestScale(llvm::ArrayRef<float> zero) const;
  bool followsTernaryTools() const;
  float searchScale(llvm::ArrayRef<float> rest, llvm::ArrayRef<float> zero, float start) const;

  const Spec &spec;
  llvm::ArrayRef<float> values;
  Components &out;
  llvm::StringRef tensor;
  CodeRounder rounder;
  TileGrid scaleGrid, offsetGrid, zeroGrid;
  std::vector<float> scales, offsets, zeros; ///< per tile of their grids, as used by the codes
};
} // namespace

/// The offset puts the least value at the lowest code (0 for unsigned codes).
llvm::Error BaseEncoder::encodeOffsets() {
  if (spec.offset.empty())
    return llvm::Error::success();
  std::vector<float> least(offsetGrid.size(), INFINITY), most(offsetGrid.size(), -INFINITY);
  forEachStretch(offsetGrid, [&](int64_t tile, int64_t row, int64_t first, int64_t end) {
    for (int64_t col = first; col < end; ++col) {
      least[tile] = std::min(least[tile], valueAt(row, col));
      most[tile] = std::max(most[tile], valueAt(row, col));
    }
  });
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
  if (!isSingleFloat(spec.offset))
    offsets = std::move(held);
  return llvm::Error::success();
}

/// The zero is the code that stands for 0, so that the least value gets the lowest code.
llvm::Error BaseEncoder::encodeZeros() {
  if (spec.zero.empty())
    return llvm::Error::success();
  std::vector<float> least(zeroGrid.size(), 0), most(zeroGrid.size(), 0);
  forEachStretch(zeroGrid, [&](int64_t tile, int64_t row, int64_t first, int64_t end) {
    for (int64_t col = first; col < end; ++col) {
      least[tile] = std::min(least[tile], restAt(row, col));
      most[tile] = std::max(most[tile], restAt(row, col));
    }
  });
  for (size_t i = 0; i < least.size(); ++i) {
    float range = most[i] / 2 - least[i] / 2;
    float scale = range / (rounder.high() / 2 - rounder.low() / 2);
    bool centred = rounder.isInteger();
    zeros.push_back(centred && scale > 0 ? std::round(rounder.low() - least[i] / scale) : 0);
  }
  if (!encodeLevels(spec.zero, zeroGrid, out.zero, zeros))
    return overflow("a zero point");
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
  unsigned width = rounder.width();
  bool costly = width > 1;
  static constexpr float fine[] = {1, 0.97f, 0.94f, 0.91f, 0.88f, 0.84f, 0.8f, 1.04f};
  static constexpr float coarse[] = {1, 0.8f, 0.6f};
  static constexpr float few[] = {1, 0.8f, 0.65f, 0.5f, 0.4f, 0.3f}; // of very few levels
  float best = start;
  double least = INFINITY;
  float decoded[64];
  llvm::ArrayRef<float> factors = costly ? llvm::ArrayRef<float>(coarse) : llvm::ArrayRef(fine);
  if (!costly && spec.code.bitsPerIndex() <= 2)
    factors = few;
  for (float factor : factors) {
    float scale = start * factor, inverse = 1 / scale;
    if (!std::isfinite(inverse))
      continue;
    // The error is quadratic in the scale once the codes are fixed: fit, then evaluate.
    double xc = 0, cc = 0, xx = 0;
    for (size_t i = 0; i + width <= rest.size(); i += width) {
      float z = zero.empty() ? 0 : zero[i];
      rounder.decode(rounder.round(&rest[i], scale, inverse, z), 1, z, decoded);
      for (unsigned j = 0; j < width; ++j) {
        xc += double(rest[i + j]) * decoded[j];
        cc += double(decoded[j]) * decoded[j];
        xx += double(rest[i + j]) * rest[i + j];
      }
    }
    double fitted = cc > 0 ? xc / cc : 0;
    double error = xx - fitted * xc;
    bool allowed = fitted > 0 || canBeNegative(spec.scale);
    if (cc > 0 && allowed && error < least) {
      least = error;
      best = static_cast<float>(fitted);
    }
  }
  return best;
}

llvm::Error BaseEncoder::encodeScales() {
  if (spec.scale.empty())
    return llvm::Error::success();
  // Gather each tile's elements, tile row by tile row.
  scales.resize(scaleGrid.size());
  unsigned width = rounder.width();
  std::vector<std::vector<float>> rest(scaleGrid.cols), zero(scaleGrid.cols);
  auto flush = [&](int64_t tileRow) {
    for (int64_t c = 0; c < scaleGrid.cols; ++c) {
      float limit = largestScale(zero[c]);
      scales[tileRow * scaleGrid.cols + c] =
          std::clamp(chooseScale(rest[c], zero[c]), -limit, limit);
      rest[c].clear();
      zero[c].clear();
    }
  };
  for (int64_t row = 0; row < out.rows; ++row) {
    for (int64_t col = 0; col < out.cols; ++col) {
      int64_t c = scaleGrid.indexOf(0, col);
      rest[c].push_back(restAt(row, col));
      if (!spec.zero.empty())
        zero[c].push_back(zeroAt(row, col));
    }
    // Rows stay whole indices: vectors must not run across rows.
    for (int64_t c = 0; c < scaleGrid.cols; ++c)
      while (rest[c].size() % width != 0) {
        rest[c].push_back(0);
        if (!spec.zero.empty())
          zero[c].push_back(zero[c].back());
      }
    if (row + 1 == out.rows || scaleGrid.rowOf(row + 1) != scaleGrid.rowOf(row))
      flush(scaleGrid.rowOf(row));
  }
  std::vector<float> held = scales;
  if (!encodeLevels(spec.scale, scaleGrid, out.scale, held))
    return overflow("a scale");
  // GGUF's tools round codes by the scale before it is rounded itself.
  bool beforeRounding = (isSingleFloat(spec.scale) && rounder.isInteger()) || followsTernaryTools();
  if (!beforeRounding)
    scales = std::move(held);
  return llvm::Error::success();
}

llvm::Error BaseEncoder::encodeCodes() {
  unsigned width = rounder.width();
  Extents e = extents(spec, out.rows, out.cols);
  const Number &number = spec.code.number;
  bool isSigned = spec.code.kind != Code::Kind::Table && number.kind == Number::Kind::Signed;
  bool mayOverflow = spec.code.kind == Code::Kind::Number && spec.isPlain();
  float vector[64];
  for (int64_t row = 0; row < out.rows; ++row)
    for (int64_t index = 0; index < e.codesPerRow; ++index) {
      int64_t col = index * width;
      if (col >= out.cols)
        break; // padding stays zero
      for (unsigned i = 0; i < width; ++i)
        vector[i] = col + i < out.cols ? restAt(row, col + i) : 0;
      float scale = spec.scale.empty() ? 1 : scales[scaleGrid.indexOf(row, col)];
      // 1/scale overflows for the least subnormals; such tiles are all but zero.
      float inverse = scale == 0 ? 0 : 1 / scale;
      if (!std::isfinite(inverse))
        inverse = 0;
      uint64_t raw = rounder.round(vector, scale, inverse, zeroAt(row, col));
      if (mayOverflow && std::fabs(vector[0]) > maxValue(number) &&
          (!number.isFloat() || !std::isfinite(decodeNumber(number, raw))))
        return llvm::createStringError("tensor '" + tensor + "' [" +
                                       llvm::Twine(out.firstRow + row) + ", " + llvm::Twine(col) +
                                       "]: " + std::to_string(vector[0]) + " does not fit " +
                                       print(number));
      if (isSigned)
        raw = uint64_t(int64_t(raw << (64 - number.bits)) >> (64 - number.bits));
      out.codes.set(row, index, raw);
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

static llvm::Error encodeAny(const Spec &spec, llvm::ArrayRef<float> values, Components &out,
                             llvm::StringRef tensor) {
  if (spec.kind == Spec::Kind::Base) {
    if (spec.code.kind == Code::Kind::Table && spec.code.table.isLearned())
      return llvm::createStringError("tensor '" + tensor + "': '" + print(spec) +
                                     "' needs a table learned from data");
    if (llvm::Error error = checkTileRows(spec, out.firstRow))
      return error;
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
