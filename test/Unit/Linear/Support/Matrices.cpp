//===- Matrices.cpp - Coded matrices and activations for kernel tests -----===//
//
// See the header.
//
//===----------------------------------------------------------------------===//
#include "Matrices.h"
#include "../../Support/EmulateX86.h"
#include "quern/Format/Number.h"
#include "quern/Reference/Activations.h"
#include "quern/Reference/Ops.h"
#include "quern/Reference/Tolerance.h"
#include <cmath>
#include <cstring>
#include <random>

using namespace quern;
using namespace quern::conversion;
using namespace quern::test;

namespace {
using Random = std::mt19937_64;

uint64_t signExtended(const format::Number &number, uint64_t raw) {
  if (number.kind != format::Number::Kind::Signed || number.bits >= 64)
    return raw;
  unsigned unused = 64 - number.bits;
  return uint64_t(int64_t(raw << unused) >> unused);
}

double uniform(Random &random, double low, double high) {
  return low + (high - low) * double(random() >> 11) * 0x1p-53;
}

void fillCodes(const format::Spec &spec, format::Stream &codes, Fill fill, Random &random) {
  const format::Code &code = spec.code;
  bool number = code.kind == format::Code::Kind::Number;
  unsigned bits = code.bitsPerIndex();
  uint64_t last = bits >= 64 ? ~uint64_t(0) : (uint64_t(1) << bits) - 1;
  if (code.kind == format::Code::Kind::Ternary)
    last = 2;
  for (int64_t row = 0; row < codes.rows; ++row)
    for (int64_t col = 0; col < codes.cols; ++col) {
      if (number) {
        float value = code.number.isFloat() && bits > 8 ? uniform(random, -1, 1) : NAN;
        uint64_t raw =
            std::isnan(value) ? random() & last : format::encodeNumber(code.number, value);
        if (fill == Fill::LowestCodes)
          raw = format::encodeNumber(code.number, bits > 8 ? -2.0f : format::minValue(code.number));
        if (fill == Fill::HighestCodes)
          raw = format::encodeNumber(code.number, bits > 8 ? 2.0f : format::maxValue(code.number));
        if (fill == Fill::Denormals && code.number.isFloat())
          raw = (random() & 3) | (random() & 1) << (bits - 1);
        if (!std::isfinite(format::decodeNumber(code.number, raw)))
          raw = 0;
        codes.set(row, col, signExtended(code.number, raw));
        continue;
      }
      uint64_t raw = fill == Fill::LowestCodes    ? 0
                     : fill == Fill::HighestCodes ? last
                                                  : random() % (last + 1);
      if (code.kind == format::Code::Kind::Power || code.kind == format::Code::Kind::Pow2)
        raw = signExtended(code.number, raw);
      codes.set(row, col, raw);
    }
}

void fillLevels(llvm::ArrayRef<format::Level> levels, std::vector<format::Stream> &streams,
                Fill fill, bool scales, Random &random) {
  for (auto [level, stream] : llvm::zip(levels, streams))
    for (int64_t row = 0; row < stream.rows; ++row)
      for (int64_t col = 0; col < stream.cols; ++col) {
        uint64_t raw;
        const format::Number &number = level.number;
        if (number.isFloat()) {
          double value = uniform(random, 0.25, 1) * (number.bits >= 16 ? 0.02 : 1);
          if (random() % 4 == 0)
            value = -value;
          if (scales && fill == Fill::TinyScales)
            value *= number.bits > 16 ? 1e-38 : 1e-6;
          raw = format::encodeNumber(number, float(value));
        } else {
          raw = random() & (number.bits >= 64 ? ~uint64_t(0) : (uint64_t(1) << number.bits) - 1);
          if (fill == Fill::LowestCodes)
            raw = format::encodeNumber(number, format::minValue(number));
          if (fill == Fill::HighestCodes)
            raw = format::encodeNumber(number, format::maxValue(number));
        }
        if (scales && fill == Fill::ZeroScales)
          raw = 0;
        stream.set(row, col, signExtended(number, raw));
      }
}

/// Whether `number` has the pattern, which is not finite then.
bool notFinite(const format::Number &number, float value, uint64_t &raw) {
  raw = format::encodeNumber(number, value);
  return number.isFloat() && !std::isfinite(format::decodeNumber(number, raw));
}

/// Puts infinities and NaN where the format has them, into rows 2 and 17; all others stay finite.
void fillNotFinite(const format::Spec &spec, format::Components &c) {
  auto put = [](const format::Number &number, format::Stream &stream, int64_t rows) {
    uint64_t raw;
    if (stream.rows != rows || rows < 3)
      return;
    if (notFinite(number, INFINITY, raw))
      stream.set(2, stream.cols / 2, raw);
    if (rows > 17 && notFinite(number, NAN, raw))
      stream.set(17, 0, raw);
  };
  if (spec.code.kind == format::Code::Kind::Number)
    put(spec.code.number, c.codes, c.rows);
  auto putAll = [&](llvm::ArrayRef<format::Level> levels, std::vector<format::Stream> &streams) {
    for (auto [level, stream] : llvm::zip(levels, streams))
      put(level.number, stream, c.rows);
  };
  putAll(spec.scale, c.scale);
  putAll(spec.offset, c.offset);
  putAll(spec.zero, c.zero);
}
} // namespace

llvm::Expected<CodedMatrix> test::makeMatrix(const format::Spec &spec, int64_t n, int64_t k,
                                             Fill fill, uint64_t seed) {
  auto layout = format::PackedLayout::get(spec, n, k);
  if (!layout)
    return layout.takeError();
  Random random(seed);
  CodedMatrix m = {*layout, {}, std::vector<float>(n * k), Buffer(layout->bytes())};
  bool isSplit = spec.kind == format::Spec::Kind::Split;
  std::vector<int64_t> sets;
  if (isSplit) {
    auto chosen = format::splitColumns(spec, k);
    if (!chosen)
      return chosen.takeError();
    sets = std::move(*chosen);
  }
  format::allocate(spec, 0, n, k, m.components, sets);
  std::shuffle(m.components.permutation.begin(), m.components.permutation.end(), random);
  auto fillBase = [&](const format::Spec &base, format::Components &c) {
    fillCodes(base, c.codes, fill, random);
    fillLevels(base.scale, c.scale, fill, true, random);
    fillLevels(base.offset, c.offset, fill, false, random);
    fillLevels(base.zero, c.zero, fill, false, random);
    const format::Number &stored = base.code.table.entryNumber;
    for (float &entry : c.table)
      entry =
          format::decodeNumber(stored, format::encodeNumber(stored, float(uniform(random, -1, 1))));
    if (fill == Fill::NotFinite)
      fillNotFinite(base, c);
  };
  if (spec.kind == format::Spec::Kind::Base)
    fillBase(spec, m.components);
  for (auto [term, c] : llvm::zip(spec.terms, m.components.terms)) {
    if (term.kind == format::Spec::Kind::Base)
      fillBase(term, c);
    for (auto [part, partData] : llvm::zip(term.terms, c.terms)) // a sum within a split
      fillBase(part, partData);
  }
  if (llvm::Error error = format::decode(spec, m.components, m.values))
    return error;
  // Kernels find x in the order of a split's columns.
  if (isSplit)
    m.values = reference::takeColumns({m.values, n, k}, m.components.permutation);
  llvm::MutableArrayRef<uint8_t> tables(m.packed.get() + layout->tableStart, layout->tableBytes);
  if (llvm::Error error = layout->packTables(m.components, tables))
    return error;
  for (int64_t p = 0; p < layout->panels(); ++p)
    if (llvm::Error error = layout->packPanel(
            m.components, p, {m.packed.get() + p * layout->panelBytes, size_t(layout->panelBytes)}))
      return error;
  return m;
}

std::vector<float> test::makeActivations(int64_t tokens, int64_t k, uint64_t seed, bool extreme) {
  Random random(seed);
  std::vector<float> x(tokens * k);
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t i = 0; i < k; ++i) {
      float &value = x[t * k + i];
      value = float(uniform(random, -1, 1));
      int64_t group = i / 32;
      if ((group + t) % 7 == 3)
        value = random() % 2 ? 1.0f : -1.0f; // all codes at their extremes
      if ((group + t) % 11 == 5)
        value = 1.0f;
      if ((group + t) % 13 == 7)
        value = 0;
      if (extreme && (group + t) % 13 == 9)
        value *= 0x1p-130f;
    }
  if (extreme && tokens >= 8) {
    x[5 * k + k / 2] = INFINITY;
    x[6 * k + k / 3] = NAN;
  }
  return x;
}

/// What int16 codes with a power of two as scale for 32 columns keep of bf16 values: multiples of
/// 2^(e - 14) where the largest lies in [2^e, 2^(e + 1)).
static void roundToWords(llvm::MutableArrayRef<float> row) {
  for (size_t begin = 0; begin < row.size(); begin += 32) {
    auto group = row.slice(begin, std::min<size_t>(32, row.size() - begin));
    for (float &value : group)
      value = reference::roundToBF16(value);
    float largest = reference::groupAbsMax({group.data(), group.size()});
    if (!std::isfinite(largest))
      continue;
    float step = std::ldexp(1.0f, std::ilogb(largest) - 14);
    for (float &value : group)
      value = std::nearbyint(value / step) * step;
  }
}

/// The weights as kernels multiply them that round to bf16: each term of a sum on its own.
static std::vector<float> roundedWeights(const format::Spec &spec, const CodedMatrix &matrix) {
  auto round = [](std::vector<float> &values) {
    std::transform(values.begin(), values.end(), values.begin(), reference::roundToBF16);
  };
  std::vector<float> all = matrix.values;
  if (spec.kind != format::Spec::Kind::Sum) {
    round(all);
    return all;
  }
  std::fill(all.begin(), all.end(), 0.0f);
  for (auto [term, components] : llvm::zip(spec.terms, matrix.components.terms)) {
    std::vector<float> values(all.size());
    llvm::cantFail(format::decode(term, components, values));
    round(values);
    std::transform(all.begin(), all.end(), values.begin(), all.begin(), std::plus<float>());
  }
  return all;
}

/// What the int16 codes of one token may differ from the bf16 values that tiles multiply: half a
/// step of each group, by the weights' magnitudes.
static void addWordRounding(const reference::Matrix &x, const reference::Matrix &w,
                            llvm::MutableArrayRef<double> magnitude) {
  for (int64_t t = 0; t < x.rows; ++t)
    for (int64_t begin = 0; begin < x.cols; begin += 32) {
      size_t length = std::min<int64_t>(32, x.cols - begin);
      float largest = reference::groupAbsMax(x.row(t).subspan(begin, length));
      if (!std::isfinite(largest))
        continue;
      double half = std::ldexp(1.0, std::ilogb(largest) - 15);
      for (int64_t n = 0; n < w.rows; ++n)
        for (float value : w.row(n).subspan(begin, length))
          magnitude[t * w.rows + n] +=
              std::fabs(value) * half / (reference::f32Epsilon * reference::defaultToleranceFactor);
    }
}

/// Tiles take values of bf16 and sums below f32's normal range for zero: what a product loses
/// then, in units of f32's epsilon as magnitudes are.
static void addFlushed(const reference::Matrix &x, const reference::Matrix &w,
                       llvm::MutableArrayRef<double> magnitude) {
  auto rowSums = [](const reference::Matrix &m) {
    std::vector<double> sums(m.rows);
    for (int64_t row = 0; row < m.rows; ++row)
      for (float value : m.row(row))
        sums[row] += std::fabs(value) + 1;
    return sums;
  };
  std::vector<double> xSums = rowSums(x), wSums = rowSums(w);
  for (int64_t t = 0; t < x.rows; ++t)
    for (int64_t n = 0; n < w.rows; ++n)
      magnitude[t * w.rows + n] += (xSums[t] + wSums[n]) * 0x1p-126 / reference::f32Epsilon;
}

std::string test::checkKernel(const Kernel &kernel, const LinearDesc &desc,
                              const CodedMatrix &matrix, llvm::ArrayRef<int64_t> tokenCounts,
                              uint64_t seed, bool extreme) {
  using reference::ActivationFormat;
  bool isNarrow = desc.largestCode == reference::largestCode4;
  const ActivationFormat formats[] = {ActivationFormat::F32, ActivationFormat::BF16,
                                      isNarrow ? ActivationFormat::Q4 : ActivationFormat::Q8,
                                      isNarrow ? ActivationFormat::Int4 : ActivationFormat::Int8};
  ActivationFormat format = formats[int(desc.activation)];
  int64_t n = desc.n, k = desc.k, most = desc.maxTokens;
  std::vector<float> x = makeActivations(most, k, seed, extreme), bias(n), residual(most * n);
  for (int64_t i = 0; i < n; ++i)
    bias[i] = float(i % 5) - 2;
  for (int64_t i = 0; i < most * n; ++i)
    residual[i] = float(i % 3) - 1;
  ActivationLayout act = ActivationLayout::get(desc.activation, k, desc.weight);
  Buffer quantized(most * act.bytes);
  std::memset(quantized.get(), 0x55, quantized.size);
  if (kernel.quantize) {
    kernel.quantize(x.data(), quantized.get(), 0, most / 2);
    kernel.quantize(x.data(), quantized.get(), most / 2, most);
  }
  if (desc.activation == Activation::Q8 || desc.activation == Activation::Int8) {
    int64_t group = desc.activation == Activation::Q8 ? 32 : act.k;
    std::vector<int8_t> codes(act.k);
    std::vector<float> scales((act.k + group - 1) / group);
    for (int64_t t = 0; t < most; ++t) {
      reference::quantizeRow({x.data() + t * k + act.plain, size_t(act.k)}, group, codes, scales,
                             int(desc.largestCode));
      const uint8_t *row = quantized.get() + t * act.bytes;
      if (std::memcmp(row, x.data() + t * k, act.plain * sizeof(float)) != 0)
        return "plain columns of token " + std::to_string(t) + " differ";
      row += act.base;
      if (std::memcmp(row, codes.data(), act.k) != 0)
        return "codes of token " + std::to_string(t) + " differ from the reference";
      if (std::memcmp(row + act.scalesOffset, scales.data(), scales.size() * 4) != 0)
        return "scales of token " + std::to_string(t) + " differ from the reference";
    }
  }
  if (kernel.wordActivations && !kernel.tilesBesideWords)
    for (int64_t t = 0; t < most; ++t)
      roundToWords(llvm::MutableArrayRef(x).slice(t * k, k));
  std::vector<float> weights =
      kernel.roundsWeights ? roundedWeights(desc.weight, matrix) : matrix.values;
  const void *input = kernel.quantize ? static_cast<const void *>(quantized.get()) : x.data();
  std::vector<float> first;
  for (int64_t tokens : tokenCounts) {
    std::vector<float> out(most * n, -12345.0f), expected(tokens * n);
    std::vector<double> magnitude(tokens * n);
    int64_t panels = matrix.layout.workUnits(), cut = (panels + 2) / 3;
    kernel.linear(input, matrix.packed.get(), bias.data(), residual.data(), out.data(), tokens, cut,
                  panels);
    kernel.linear(input, matrix.packed.get(), bias.data(), residual.data(), out.data(), tokens, 0,
                  cut);
    std::span<const float> addend;
    if (desc.bias)
      addend = bias;
    reference::Matrix xs = {std::span<const float>(x.data(), tokens * k), tokens, k};
    reference::Matrix ws = {weights, n, k};
    reference::linear(xs, ws, addend, format, expected, {act.plain});
    reference::linearMagnitude(xs, ws, addend, format, magnitude, {act.plain});
    if (desc.residual)
      for (int64_t i = 0; i < tokens * n; ++i) {
        expected[i] += residual[i];
        magnitude[i] += std::fabs(residual[i]);
      }
    if (TileUnit::get().inUse())
      return std::to_string(tokens) + " tokens: tiles are still in use";
    // Products too small for f32's normal range err by up to a unit of its denormals each.
    for (double &sum : magnitude)
      sum += double(k) * 0x1p-149 / reference::f32Epsilon;
    if (kernel.roundsWeights || kernel.tilesBesideWords)
      addFlushed(xs, ws, magnitude);
    if (kernel.tilesBesideWords)
      addWordRounding(xs, ws, magnitude);
    // x (and weights, where that is due) are rounded alike on both sides: products are those of
    // f32.
    std::string difference = reference::compare({out.data(), size_t(tokens * n)}, expected,
                                                magnitude, reference::f32Epsilon);
    if (!difference.empty())
      return std::to_string(tokens) + " tokens: " + difference;
    for (int64_t i = tokens * n; i < most * n; ++i)
      if (out[i] != -12345.0f)
        return std::to_string(tokens) + " tokens: wrote past the last row";
    out.resize(n);
    for (float &value : out)
      value = std::isnan(value) ? NAN : value; // which NaN does not matter
    if (first.empty())
      first = out;
    bool same = std::memcmp(first.data(), out.data(), n * 4) == 0;
    if (kernel.hasOwnOrder)
      same = reference::compare(out, first, {magnitude.data(), size_t(n)}, reference::f32Epsilon)
                 .empty();
    if (!same)
      return std::to_string(tokens) + " tokens: token 0 depends on the number of tokens";
  }
  return "";
}

std::string test::checkFormat(const format::Spec &spec, int64_t n, int64_t k, Activation activation,
                              llvm::ArrayRef<int64_t> tokenCounts, llvm::ArrayRef<Fill> fills,
                              bool addends, llvm::StringRef targetName, Effort effort,
                              int64_t largestCode) {
  LinearDesc desc;
  desc.weight = spec;
  desc.n = n;
  desc.k = k;
  desc.activation = activation;
  desc.largestCode = largestCode;
  desc.bias = desc.residual = addends;
  desc.maxTokens = *std::max_element(tokenCounts.begin(), tokenCounts.end());
  auto target = target::lookup(targetName);
  if (!target)
    return llvm::toString(target.takeError());
  auto kernel = compileKernel(desc, *target, effort);
  if (!kernel)
    return llvm::toString(kernel.takeError());
  // Tiles are no vectors.
  if (!kernel->scalar.empty() && !target->amxInt8 && !target->amxBf16)
    return "not vector code: " + kernel->scalar;
  bool extreme = fills.size() == std::size(allFills);
  auto checkData = [&](Fill fill, uint64_t seed) -> std::string {
    auto matrix = makeMatrix(spec, n, k, fill, seed);
    if (!matrix)
      return llvm::toString(matrix.takeError());
    std::string difference = checkKernel(*kernel, desc, *matrix, tokenCounts, 7 + seed, extreme);
    if (difference.empty())
      return "";
    return "fill " + std::to_string(int(fill)) + ", seed " + std::to_string(seed) + ", " +
           difference;
  };
  for (Fill fill : fills)
    if (std::string difference = checkData(fill, 1); !difference.empty())
      return difference;
  return extreme ? checkData(Fill::Random, 2) : "";
}
