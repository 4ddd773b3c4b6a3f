//===- Random.cpp - Seeded random formats and data for tests --------------===//
//
// Draws by a generator of our own, since the standard distributions differ between
// libraries.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Random.h"
#include "quern/Format/Number.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/ErrorHandling.h"
#include <cmath>

using namespace quern::format;

namespace {
/// SplitMix64.
class Draw {
public:
  explicit Draw(uint64_t seed) : state(seed) {}
  uint64_t next() {
    uint64_t z = (state += 0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }
  /// In [0, n).
  uint64_t below(uint64_t n) { return next() % n; }
  /// In [low, high].
  int64_t within(int64_t low, int64_t high) { return low + int64_t(below(high - low + 1)); }
  bool chance(unsigned percent) { return below(100) < percent; }
  /// In [low, high), a multiple of 2^-16 of the range.
  float uniform(float low, float high) {
    return low + (high - low) * (float(below(65536)) * 0x1p-16f);
  }
  template <typename T> T pick(std::initializer_list<T> choices) {
    return choices.begin()[below(choices.size())];
  }

private:
  uint64_t state;
};
} // namespace

static Table randomTable(Draw &draw) {
  Table table;
  if (draw.chance(60)) {
    table.indexBits = draw.within(1, 8);
  } else {
    table.dim = draw.pick({2, 4, 8});
    table.indexBits = draw.within(2, 8);
    if (draw.chance(30))
      table.signs = draw.chance(50) ? Table::Signs::Full : Table::Signs::Parity;
  }
  uint64_t count = (uint64_t(1) << table.indexBits) * table.dim;
  bool integers = draw.chance(50);
  for (uint64_t i = 0; i < count; ++i)
    table.entries.push_back(integers ? float(draw.within(-127, 127))
                                     : float(draw.within(-1000, 1000)) / 512);
  return table;
}

static Code randomCode(Draw &draw) {
  Code code;
  uint64_t kind = draw.below(100);
  if (kind < 60) {
    unsigned bits = draw.within(1, 8);
    code.number =
        bits == 1 || draw.chance(50) ? Number::unsignedInt(bits) : Number::signedInt(bits);
  } else if (kind < 72) {
    code.number =
        Number::floating(draw.pick({FloatKind::F8E4M3FN, FloatKind::F8E5M2, FloatKind::F6E2M3FN,
                                    FloatKind::F6E3M2FN, FloatKind::F4E2M1FN}));
  } else if (kind < 90) {
    code.kind = Code::Kind::Table;
    code.table = randomTable(draw);
  } else if (kind < 94) {
    code.kind = Code::Kind::Ternary;
  } else if (kind < 97) {
    code.kind = Code::Kind::Sign;
  } else {
    code.kind = Code::Kind::Pow2;
    code.number = Number::unsignedInt(draw.within(2, 5));
  }
  return code;
}

/// One level per group of `group` columns, or two.
static std::vector<Level> randomLevels(Draw &draw, int64_t group) {
  auto floating = [&] {
    return Number::floating(
        draw.pick({FloatKind::F16, FloatKind::F16, FloatKind::BF16, FloatKind::F32}));
  };
  std::vector<Level> levels;
  if (draw.chance(50)) {
    Number number = draw.chance(15) ? Number::floating(FloatKind::F8E8M0FNU) : floating();
    levels.push_back({number, {1, group}, 1, 0});
    return levels;
  }
  // The outer tile is the row, the matrix, or a few groups within 256 columns.
  int64_t most = 256 / group;
  Tile outer = {1, 0};
  if (draw.chance(20))
    outer = {0, 0};
  else if (most >= 2)
    outer = {1, group * draw.within(2, most)};
  levels.push_back({floating(), outer, 1, 0});
  Level inner;
  inner.tile = {1, group};
  unsigned bits = draw.within(4, 8);
  if (draw.chance(20))
    inner.number = Number::floating(FloatKind::F8E4M3FN);
  else
    inner.number = draw.chance(50) ? Number::unsignedInt(bits) : Number::signedInt(bits);
  if (!inner.number.isFloat() && draw.chance(15)) {
    inner.addend = 0.5f;
    inner.multiplier = 0.25f;
  }
  levels.push_back(inner);
  return levels;
}

Spec quern::format::randomSpec(uint64_t seed) {
  Draw draw(seed);
  Spec spec;
  spec.code = randomCode(draw);
  int64_t group =
      draw.chance(50) ? draw.pick<int64_t>({16, 24, 32, 64, 128, 256}) : 8 * draw.within(1, 32);
  spec.scale = randomLevels(draw, group);
  bool isUnsigned =
      spec.code.kind == Code::Kind::Number && spec.code.number.kind == Number::Kind::Unsigned;
  uint64_t shift = draw.below(100);
  if (shift < 35) {
    // Shaped like the scale, as in the K-quants, or a plain float per group.
    spec.offset = spec.scale;
    if (draw.chance(30))
      spec.offset = {{Number::floating(FloatKind::F16), {1, group}, 1, 0}};
    spec.offsetSign = draw.chance(50) ? 1 : -1;
  } else if (shift < 65 && isUnsigned) {
    Tile tile = {1, draw.chance(75) ? group : 0};
    spec.zero = {{Number::unsignedInt(spec.code.number.bits), tile, 1, 0}};
  }
  if (llvm::Error error = validate(spec))
    llvm::report_fatal_error(std::move(error));
  return spec;
}

static bool isFiniteCode(const Code &code, uint64_t raw) {
  if (code.kind == Code::Kind::Ternary)
    return raw < 3;
  if (code.kind != Code::Kind::Number)
    return true;
  float value = decodeNumber(code.number, raw);
  return std::isfinite(value) && (code.number.bits < 16 || std::fabs(value) <= 4);
}

static uint64_t extend(const Number &number, uint64_t raw) {
  if (number.kind != Number::Kind::Signed)
    return raw;
  return uint64_t(int64_t(raw << (64 - number.bits)) >> (64 - number.bits));
}

static void randomLevel(Draw &draw, const Level &level, float target, Stream &stream) {
  for (int64_t r = 0; r < stream.rows; ++r)
    for (int64_t c = 0; c < stream.cols; ++c) {
      const Number &number = level.number;
      float value = target * draw.uniform(0.5f, 1.0f);
      if (number.isFloat() && minValue(number) < 0 && draw.chance(25))
        value = -value;
      uint64_t raw = number.isFloat() ? encodeNumber(number, value)
                                      : draw.next() & ((uint64_t(2) << (number.bits - 1)) - 1);
      stream.set(r, c, extend(number, raw));
    }
}

static void randomChain(Draw &draw, const std::vector<Level> &levels,
                        std::vector<Stream> &streams) {
  for (size_t l = 0; l < levels.size(); ++l) {
    // Products are of order 1 whatever the range of the inner levels.
    float target = 1;
    for (size_t i = l + 1; i < levels.size(); ++i)
      if (!levels[i].number.isFloat())
        target /= maxValue(levels[i].number) * levels[i].multiplier;
    randomLevel(draw, levels[l], target, streams[l]);
  }
}

void quern::format::randomComponents(const Spec &spec, int64_t rows, int64_t cols, uint64_t seed,
                                     Components &out) {
  Draw draw(seed ^ 0x5175657256);
  if (spec.kind == Spec::Kind::Split) {
    std::vector<int64_t> sets(spec.terms.size(), cols / int64_t(spec.terms.size()));
    sets.back() += cols % int64_t(spec.terms.size());
    allocate(spec, 0, rows, cols, out, sets);
    for (int64_t j = cols; j > 1; --j)
      std::swap(out.permutation[j - 1], out.permutation[draw.below(j)]);
  } else {
    allocate(spec, 0, rows, cols, out);
  }
  if (spec.kind != Spec::Kind::Base) {
    for (size_t t = 0; t < spec.terms.size(); ++t)
      randomComponents(spec.terms[t], rows, out.terms[t].cols, draw.next(), out.terms[t]);
    return;
  }
  unsigned bits = spec.code.bitsPerIndex();
  int64_t used = (cols + spec.code.valuesPerIndex() - 1) / spec.code.valuesPerIndex();
  bool isNumber = spec.code.kind == Code::Kind::Number;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < used; ++c) {
      uint64_t raw;
      do {
        raw = draw.next() & (bits == 64 ? ~uint64_t(0) : (uint64_t(1) << bits) - 1);
      } while (!isFiniteCode(spec.code, raw) && !(isNumber && bits >= 16));
      if (isNumber && bits >= 16)
        raw = encodeNumber(spec.code.number, draw.uniform(-2, 2));
      out.codes.set(r, c, isNumber ? extend(spec.code.number, raw) : raw);
    }
  randomChain(draw, spec.scale, out.scale);
  randomChain(draw, spec.offset, out.offset);
  randomChain(draw, spec.zero, out.zero);
  for (float &entry : out.table)
    entry = draw.uniform(-1, 1);
}
