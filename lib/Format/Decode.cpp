//===- Decode.cpp - The meaning of every format ---------------------------===//
//
// Row by row: expand the codes, then subtract the zero, multiply by the scale and
// add the offset of each stretch of columns that shares them. All in f32, in the
// order Spec.h states.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Components.h"
#include "quern/Format/Number.h"
#include <bit>
#include <cstring>
#include <numeric>

using namespace quern::format;

namespace {
/// A chain of levels with their arrays, evaluated a row at a time.
class Chain {
public:
  Chain(const std::vector<Level> &levels, const std::vector<Stream> &streams,
        const Components &components, const Extents &e)
      : levels(levels), streams(streams), firstRow(components.firstRow), padded(e.paddedCols) {
    // Levels nest, so the last has the finest columns.
    stretch = levels.empty() || levels.back().tile.cols == 0 ? padded : levels.back().tile.cols;
    if (stretch == 0)
      stretch = 1;
    products.resize(levels.empty() ? 0 : padded / stretch);
  }

  bool empty() const { return levels.empty(); }
  /// Columns that share one product.
  int64_t stretchCols() const { return stretch; }
  float at(int64_t col) const { return products[col / stretch]; }

  void startRow(int64_t row) {
    for (size_t l = 0; l < levels.size(); ++l) {
      const Level &level = levels[l];
      const Stream &stream = streams[l];
      int64_t r = level.tile.rows == 0
                      ? 0
                      : (firstRow + row) / level.tile.rows - firstRow / level.tile.rows;
      int64_t repeat = (level.tile.cols == 0 ? padded : level.tile.cols) / stretch;
      if (repeat == 0)
        repeat = 1;
      for (int64_t c = 0, n = products.size(); c * repeat < n; ++c) {
        float value = decodeNumber(level.number, stream.get(r, level.tile.cols == 0 ? 0 : c));
        if (level.addend != 0)
          value = value + level.addend;
        if (level.multiplier != 1)
          value = value * level.multiplier;
        for (int64_t i = c * repeat; i < (c + 1) * repeat; ++i)
          products[i] = l == 0 ? value : products[i] * value;
      }
    }
  }

private:
  const std::vector<Level> &levels;
  const std::vector<Stream> &streams;
  int64_t firstRow, padded, stretch;
  std::vector<float> products;
};

/// Expands rows of codes to f32.
class CodeReader {
public:
  CodeReader(const Code &code, const Components &components)
      : code(code), components(components), values(code.valuesPerIndex()) {
    if (code.kind == Code::Kind::Table)
      entries =
          code.table.isLearned() ? llvm::ArrayRef<float>(components.table) : code.table.values();
    if (components.codes.elementBytes == 1 && values == 1) {
      uint64_t mask = (uint64_t(1) << code.bitsPerIndex()) - 1;
      small.resize(256);
      for (uint64_t raw = 0; raw < 256; ++raw)
        decodeIndex(code, components.table, raw & mask, &small[raw]);
    }
  }

  void read(int64_t row, float *out) const {
    const Stream &codes = components.codes;
    int64_t n = codes.cols;
    if (!small.empty()) {
      const uint8_t *from = codes.data<uint8_t>() + row * n;
      for (int64_t i = 0; i < n; ++i)
        out[i] = small[from[i]];
      return;
    }
    if (code.kind == Code::Kind::Table) {
      for (int64_t i = 0; i < n; ++i)
        decodeEntry(code.table, entries, codes.get(row, i), out + i * values);
      return;
    }
    if (isPlain(FloatKind::F32)) {
      std::memcpy(out, codes.data<uint8_t>() + row * n * 4, n * 4);
      return;
    }
    if (isPlain(FloatKind::BF16)) {
      const uint16_t *from = codes.data<uint16_t>() + row * n;
      for (int64_t i = 0; i < n; ++i)
        out[i] = std::bit_cast<float>(uint32_t(from[i]) << 16);
      return;
    }
    if (isPlain(FloatKind::F16)) {
      const uint16_t *from = codes.data<uint16_t>() + row * n;
      for (int64_t i = 0; i < n; ++i)
        out[i] = decodeHalf(from[i]);
      return;
    }
    for (int64_t i = 0; i < n; ++i)
      out[i] = decodeCode(code, codes.get(row, i));
  }

private:
  bool isPlain(FloatKind kind) const {
    return code.kind == Code::Kind::Number && code.number.isFloat(kind);
  }

  /// decodeFloat(F16, ...) without branches, for loops over many.
  static float decodeHalf(uint32_t half) {
    uint32_t aligned = (half & 0x7FFF) << 13;
    uint32_t finite = std::bit_cast<uint32_t>(std::bit_cast<float>(aligned) * 0x1p112f);
    uint32_t bits = (half & 0x7C00) == 0x7C00 ? aligned | 0x7F800000u : finite;
    return std::bit_cast<float>(bits | (half & 0x8000) << 16);
  }

  const Code &code;
  const Components &components;
  int64_t values;
  llvm::ArrayRef<float> entries; ///< of a table
  std::vector<float> small;      ///< what each byte stands for, if codes are bytes
};
} // namespace

static void decodeBase(const Spec &spec, const Components &components, float *out) {
  Extents e = extents(spec, components.rows, components.cols);
  Chain scale(spec.scale, components.scale, components, e);
  Chain offset(spec.offset, components.offset, components, e);
  Chain zero(spec.zero, components.zero, components, e);
  CodeReader reader(spec.code, components);
  std::vector<float> values(e.paddedCols);
  // Tiles divide one another, so the least stretch divides all.
  int64_t stretch = std::max<int64_t>(e.paddedCols, 1);
  for (const Chain *chain : {&scale, &offset, &zero})
    if (!chain->empty())
      stretch = std::gcd(stretch, chain->stretchCols());

  for (int64_t row = 0; row < components.rows; ++row) {
    scale.startRow(row);
    offset.startRow(row);
    zero.startRow(row);
    reader.read(row, values.data());
    for (int64_t begin = 0; begin < components.cols; begin += stretch) {
      int64_t end = std::min(begin + stretch, components.cols);
      if (!zero.empty()) {
        float z = zero.at(begin);
        for (int64_t i = begin; i < end; ++i)
          values[i] = values[i] - z;
      }
      if (!scale.empty()) {
        float s = scale.at(begin);
        for (int64_t i = begin; i < end; ++i)
          values[i] = values[i] * s;
      }
      if (!offset.empty()) {
        // Subtracting is adding the negated offset: the same rounding.
        float o = spec.offsetSign < 0 ? -offset.at(begin) : offset.at(begin);
        for (int64_t i = begin; i < end; ++i)
          values[i] = values[i] + o;
      }
    }
    std::memcpy(out + row * components.cols, values.data(), components.cols * sizeof(float));
  }
}

static void decodeAny(const Spec &spec, const Components &components, float *out) {
  int64_t rows = components.rows, cols = components.cols;
  switch (spec.kind) {
  case Spec::Kind::Base:
    decodeBase(spec, components, out);
    return;
  case Spec::Kind::Sum: {
    decodeAny(spec.terms[0], components.terms[0], out);
    std::vector<float> term(rows * cols);
    for (size_t t = 1; t < spec.terms.size(); ++t) {
      decodeAny(spec.terms[t], components.terms[t], term.data());
      for (int64_t i = 0; i < rows * cols; ++i)
        out[i] = out[i] + term[i];
    }
    return;
  }
  case Spec::Kind::Split: {
    int64_t first = 0;
    std::vector<float> term;
    for (size_t t = 0; t < spec.terms.size(); ++t) {
      int64_t termCols = components.terms[t].cols;
      term.resize(rows * termCols);
      decodeAny(spec.terms[t], components.terms[t], term.data());
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < termCols; ++c)
          out[r * cols + components.permutation[first + c]] = term[r * termCols + c];
      first += termCols;
    }
    return;
  }
  }
}

llvm::Error quern::format::decode(const Spec &spec, const Components &components,
                                  llvm::MutableArrayRef<float> out) {
  if (llvm::Error error = verify(spec, components))
    return error;
  if (out.size() != uint64_t(components.rows) * uint64_t(components.cols))
    return llvm::createStringError("decode: room for " + llvm::Twine(uint64_t(out.size())) +
                                   " values; expected " + llvm::Twine(components.rows) + "x" +
                                   llvm::Twine(components.cols));
  decodeAny(spec, components, out.data());
  return llvm::Error::success();
}
