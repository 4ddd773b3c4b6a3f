//===- EncodeTest.cpp - Rounding real matrices into every format ----------===//
//
// Byte identity with GGUF's tools is OracleTest's; here are error bounds for every
// known format, and the edges: zeros, ties, subnormal scales, NaN and infinity.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Encode.h"
#include "quern/Format/FileType.h"
#include "quern/Format/Known.h"
#include "quern/Format/Number.h"
#include <cmath>
#include <gtest/gtest.h>
#include <random>

using namespace quern::format;

static std::vector<float> gaussian(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> values(count);
  for (float &v : values) {
    // A sum of uniforms, since std::normal_distribution differs between libraries.
    v = -6;
    for (int i = 0; i < 12; ++i)
      v += float(random()) * 0x1p-32f;
  }
  return values;
}

static std::vector<float> roundTrip(const Spec &spec, llvm::ArrayRef<float> values, int64_t rows,
                                    int64_t cols) {
  Components c;
  if (llvm::Error error = encode(spec, values, rows, cols, c, "w")) {
    ADD_FAILURE() << print(spec) << ": " << llvm::toString(std::move(error));
    return std::vector<float>(values.size());
  }
  std::vector<float> out(values.size());
  llvm::cantFail(decode(spec, c, out));
  return out;
}

/// Root mean square of the error relative to that of the values.
static double relativeError(llvm::ArrayRef<float> values, llvm::ArrayRef<float> decoded) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    error += std::pow(double(values[i]) - decoded[i], 2);
    norm += std::pow(double(values[i]), 2);
  }
  return std::sqrt(error / norm);
}

static std::string messageOf(llvm::StringRef format, std::vector<float> values, int64_t rows) {
  Components c;
  llvm::Error error =
      encode(llvm::cantFail(parse(format)), values, rows, values.size() / rows, c, "blk.0.w", 0);
  return error ? llvm::toString(std::move(error)) : "";
}

TEST(Encode, ErrorOfEveryKnownFormat) {
  // For a normal distribution: a little above what good rounding to codes of so many bits gives.
  auto bound = [](const KnownFormat &known, const Spec &spec) {
    if (spec.code.kind == Code::Kind::Ternary && known.name != "bitnet")
      return 0.8; // GGUF's tools scale these for matrices that are ternary already
    if (spec.code.kind == Code::Kind::Pow2)
      return 0.2;
    if (spec.kind == Spec::Kind::Sum)
      return 0.4;
    if (spec.kind == Spec::Kind::Split)
      return 0.01; // what the worst of its sets makes of it
    bool isFloat = spec.code.kind == Code::Kind::Number && spec.code.number.isFloat();
    double bits = double(spec.code.bitsPerIndex()) / spec.code.valuesPerIndex();
    if (bits >= 16)
      return 2e-3;
    if (bits >= 5)
      return isFloat ? 0.06 : bits >= 8 ? 0.01 : bits >= 6 ? 0.02 : 0.045;
    return bits >= 4 ? 0.13 : bits >= 3 ? 0.23 : bits >= 2.25 ? 0.25 : 0.6;
  };
  std::vector<float> values = gaussian(8 * 512, 1);
  for (const KnownFormat &known : knownFormats()) {
    Spec spec = *knownSpec(known.name);
    if (spec.isPlain() && !spec.code.number.isFloat())
      continue; // rounds the values themselves
    double error = relativeError(values, roundTrip(spec, values, 8, 512));
    EXPECT_LT(error, bound(known, spec))
        << known.name.str() << " at " << bitsPerWeight(spec) << " bits";
    // A table of as many entries as there are vectors holds them all.
    EXPECT_GT(error, spec.isPlain() || known.name == "vptq" ? -1 : 1e-6);
  }
}

TEST(Encode, TwoLevelFormatsAreNoWorseThanGgmls) {
  // What ggml's own quantizers leave of such values, without an importance matrix.
  const std::pair<const char *, double> ggml[] = {
      {"q2_K", 0.2924},       {"q3_K", 0.1486},       {"q4_K", 0.0714},  {"q5_K", 0.0359},
      {"q6_K", 0.0174},       {"iq4_nl", 0.0764},     {"iq4_xs", 0.077}, {"iq3_s", 0.1633},
      {"gguf_mxfp4", 0.1149}, {"gguf_nvfp4", 0.0965},
  };
  std::vector<float> values = gaussian(8 * 512, 1);
  for (auto [name, error] : ggml)
    EXPECT_LT(relativeError(values, roundTrip(*knownSpec(name), values, 8, 512)), error) << name;
}

TEST(Encode, ZerosStayZero) {
  std::vector<float> zeros(2 * 256);
  for (const KnownFormat &known : knownFormats()) {
    Spec spec = *knownSpec(known.name);
    if (spec.code.kind == Code::Kind::Sign)
      continue;
    for (float v : roundTrip(spec, zeros, 2, 256))
      ASSERT_LT(std::fabs(v), 1e-30f) << known.name.str();
  }
}

TEST(Encode, PartialTilesAndOddShapes) {
  for (const char *name : {"q4_K", "int3_g24", "int4_g128_asym", "nvfp4", "fp8_block128", "iq2_xxs",
                           "iq1_m", "int8_channel", "q8_0"}) {
    Spec spec = *knownSpec(name);
    std::vector<float> values = gaussian(3 * 301, 2);
    double error = relativeError(values, roundTrip(spec, values, 3, 301));
    EXPECT_LT(error, 0.6) << name;
    EXPECT_EQ(roundTrip(spec, {}, 0, 301).size(), 0u);
  }
}

TEST(Encode, ValuesOnTheGridAreKept) {
  // Codes that reach the extremes, times a scale f16 holds: RTN must return them exactly.
  for (const char *name : {"q4_0", "q8_0", "q4_1", "q5_0", "q5_1", "int2_g16", "mxfp4", "nf4",
                           "int4_g128_asym", "iq4_nl", "tq2_0"}) {
    Spec spec = *knownSpec(name);
    Components c;
    allocate(spec, 0, 1, 256, c);
    std::mt19937 random(3);
    unsigned bits = spec.code.bitsPerIndex();
    for (int64_t i = 0; i < 256; ++i) {
      uint64_t raw = i % 16 == 0 ? 0 : i % 16 == 1 ? (1u << bits) - 1 : random() % (1u << bits);
      if (spec.code.kind == Code::Kind::Number && spec.code.number.kind == Number::Kind::Signed) {
        raw = i % 16 == 0 ? uint64_t(1) << (bits - 1) : raw;
        if (bits == 8 && raw == 0x80)
          raw = 0x81; // symmetric: -128 is not used
        if (bits == 8 && i % 16 == 1)
          raw = 0x7F;
        raw = uint64_t(int64_t(raw << (64 - bits)) >> (64 - bits));
      }
      if (spec.code.kind == Code::Kind::Ternary)
        raw = raw % 3;
      c.codes.set(0, i, raw);
    }
    for (int64_t i = 0; i < c.scale[0].cols; ++i)
      c.scale[0].set(0, i, encodeNumber(spec.scale[0].number, 0.5f));
    for (Stream &zero : c.zero)
      for (int64_t i = 0; i < zero.cols; ++i)
        zero.set(0, i, 5);
    std::vector<float> values(256);
    llvm::cantFail(decode(spec, c, values));
    EXPECT_LT(relativeError(values, roundTrip(spec, values, 1, 256)), 1e-6) << name;
  }
}

TEST(Encode, TiesAtTheLargestMagnitude) {
  // The first of +m and -m gets the largest code of q4_0: -8 times a scale of its sign.
  std::vector<float> values(32);
  values[3] = 4;
  values[7] = -4;
  std::vector<float> out = roundTrip(*knownSpec("q4_0"), values, 1, 32);
  EXPECT_EQ(out[3], 4);
  EXPECT_EQ(out[7], -3.5f);
  std::swap(values[3], values[7]);
  out = roundTrip(*knownSpec("q4_0"), values, 1, 32);
  EXPECT_EQ(out[3], -4);
  EXPECT_EQ(out[7], 3.5f);
}

TEST(Encode, TiesOfBytesGoAwayFromZero) {
  std::vector<float> values(32);
  values[0] = 127; // a scale of 1
  for (int i = 1; i < 32; ++i)
    values[size_t(i)] = float(i % 2 ? i : -i) + (i % 2 ? 0.5f : -0.5f);
  std::vector<float> out = roundTrip(*knownSpec("q8_0"), values, 1, 32);
  for (int i = 1; i < 32; ++i)
    EXPECT_EQ(out[size_t(i)], float(i % 2 ? i + 1 : -i - 1)) << i;
}

TEST(Encode, SubnormalScales) {
  for (float magnitude : {1e-5f, 1e-7f, 1e-8f, 1e-38f, 1e-44f}) {
    std::vector<float> values = gaussian(256, 4);
    for (float &v : values)
      v *= magnitude;
    for (const char *name : {"q4_0", "q4_K", "q6_K", "mxfp4", "int8_channel", "nvfp4", "iq2_s"})
      for (float v : roundTrip(*knownSpec(name), values, 1, 256))
        ASSERT_LT(std::fabs(v), 30 * magnitude + 1e-37f) << name << " " << magnitude;
  }
}

/// One block of zeros beside others, +-max alternating, values too small for any scale, one value
/// alone: whatever the format, the result is finite and no larger than it has to be.
TEST(Encode, EdgesOfEveryKnownFormat) {
  for (const KnownFormat &known : knownFormats()) {
    Spec spec = *knownSpec(known.name);
    if (spec.isPlain() && !spec.code.number.isFloat())
      continue;
    auto check = [&](llvm::StringRef what, llvm::ArrayRef<float> values, double largest) {
      for (float v : roundTrip(spec, values, 2, 512))
        ASSERT_LE(std::fabs(v), largest) << known.name.str() << ": " << what.str();
    };
    std::vector<float> values = gaussian(2 * 512, 8);
    std::fill(values.begin() + 256, values.begin() + 768, 0.0f);
    check("a block of zeros", values, 12);
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = i % 2 ? -3.5f : 3.5f;
    check("ties at the largest magnitude", values, 7.1);
    for (float tiny : {1e-7f, 1e-30f, 1e-40f, 1e-45f}) {
      for (size_t i = 0; i < values.size(); ++i)
        values[i] = i % 3 ? tiny : -tiny;
      check("denormals", values, 4 * tiny + 1e-6);
    }
    std::fill(values.begin(), values.end(), 0.0f);
    values[700] = -0.75f;
    check("one value", values, 1.6);
  }
}

/// Four bits fitted to the values beat the quantiles of the distribution they are drawn from.
TEST(Encode, LearnedTables) {
  std::vector<float> values = gaussian(64 * 512, 9);
  for (float &v : values)
    v = v * v * v; // heavy tails
  Spec learned = llvm::cantFail(parse("table<1, 4 bit, f16>, scale f32[1x*]"));
  Spec quantiles = llvm::cantFail(parse("table<nf4>, scale f32[1x*]"));
  double error = relativeError(values, roundTrip(learned, values, 64, 512));
  EXPECT_LT(error, 0.85 * relativeError(values, roundTrip(quantiles, values, 64, 512)));
  EXPECT_GT(error, 0.01);
  // Vectors: worse than scalars of as many bits each would make no sense.
  Spec vectors = llvm::cantFail(parse("table<2, 8 bit, f16>, scale f32[1x*]"));
  EXPECT_LT(relativeError(values, roundTrip(vectors, values, 64, 512)), error);
  // Few values need no search, and come out as f16 has them.
  std::vector<float> few(64);
  for (size_t i = 0; i < few.size(); ++i)
    few[i] = float(int(i % 7) - 3) / 2;
  EXPECT_EQ(roundTrip(llvm::cantFail(parse("table<1, 3 bit, f16>")), few, 2, 32), few);
  Components a, b;
  llvm::cantFail(encode(vectors, values, 64, 512, a));
  llvm::cantFail(encode(vectors, values, 64, 512, b));
  EXPECT_TRUE(a == b);
}

/// The columns that stick out get the first term, and come back in place.
TEST(Encode, Splits) {
  std::vector<float> values = gaussian(16 * 512, 10);
  for (int64_t row = 0; row < 16; ++row)
    for (int64_t column : {3, 77, 500})
      values[row * 512 + column] *= 100;
  Spec spec = *knownSpec("llm_int8");
  Components c;
  llvm::cantFail(encode(spec, values, 16, 512, c, "w"));
  EXPECT_EQ(c.terms[0].cols, 32);
  EXPECT_EQ(c.terms[1].cols, 480);
  for (int32_t column : {3, 77, 500})
    EXPECT_EQ(std::count(c.permutation.begin(), c.permutation.begin() + 32, column), 1);
  std::vector<float> out(values.size());
  llvm::cantFail(decode(spec, c, out));
  for (size_t i = 0; i < values.size(); ++i)
    ASSERT_NEAR(out[i], values[i], std::max(0.02, std::fabs(values[i]) * 1e-3)) << i;
  EXPECT_EQ(
      messageOf("llm_int8", std::vector<float>(64), 2),
      "tensor 'blk.0.w': 'split<outliers: f16, rest: i8, scale f32[1x*]>' leaves no column of "
      "32 for its last set");
}

/// Sets of counted columns, which are named; and the whole as one run of bytes.
TEST(Encode, SplitsOfNamedColumns) {
  std::vector<float> values = gaussian(16 * 200, 11);
  Spec spec = llvm::cantFail(parse("split<a 32: f16, b 32: sum<[i4, scale f16[1x16], sign, scale "
                                   "f16[1x16]]>, rest: i8, scale f32[1x*]>"));
  std::vector<int32_t> leading;
  for (int32_t i = 0; i < 64; ++i)
    leading.push_back(199 - 3 * i);
  Components c, again;
  llvm::cantFail(encode(spec, values, 16, 200, c, "w", 0, leading));
  EXPECT_TRUE(std::equal(leading.begin(), leading.end(), c.permutation.begin()));
  EXPECT_TRUE(std::is_sorted(c.permutation.begin() + 64, c.permutation.end()));
  EXPECT_EQ(c.terms[2].cols, 136);
  std::vector<float> out(values.size());
  llvm::cantFail(decode(spec, c, out));
  for (int64_t row = 0; row < 16; ++row)
    for (int32_t i = 0; i < 32; ++i)
      EXPECT_NEAR(out[row * 200 + leading[i]], values[row * 200 + leading[i]], 2e-3);
  std::vector<uint8_t> bytes = llvm::cantFail(packWhole(spec, c));
  EXPECT_EQ(bytes.size(), llvm::cantFail(storedBytes(spec, {16, 200}, {32, 32, 136})));
  llvm::cantFail(unpackWhole(spec, bytes, 16, 200, again));
  EXPECT_TRUE(again == c);
  auto message = [](llvm::Error error) { return llvm::toString(std::move(error)); };
  EXPECT_NE(message(unpackWhole(spec, llvm::ArrayRef(bytes).drop_back(), 16, 200, again))
                .find("expected " + std::to_string(bytes.size()) + " bytes"),
            std::string::npos);
  bytes.back() ^= 1; // the last column's number
  EXPECT_NE(message(unpackWhole(spec, bytes, 16, 200, again)).find("twice or out of range"),
            std::string::npos);
  leading[5] = leading[4];
  EXPECT_NE(message(encode(spec, values, 16, 200, c, "w", 0, leading)).find("twice or out of range"),
            std::string::npos);
  leading.pop_back();
  EXPECT_NE(message(encode(spec, values, 16, 200, c, "w", 0, leading)).find("63 are named"),
            std::string::npos);
}

TEST(Encode, LargestValues) {
  float largest = std::numeric_limits<float>::max();
  std::vector<float> values(256, 0.5f * largest);
  values[3] = -largest;
  for (const char *name : {"int8_channel", "int4_channel_asym", "fp8_e4m3_tensor"})
    for (float v : roundTrip(*knownSpec(name), values, 1, 256))
      ASSERT_TRUE(std::isfinite(v)) << name;
  EXPECT_EQ(messageOf("q4_0", values, 1),
            "tensor 'blk.0.w': a scale does not fit 'i4, scale f16[1x32]'");
  EXPECT_EQ(messageOf("f16", {1, 70000}, 1),
            "tensor 'blk.0.w' [0, 1]: 70000.000000 does not fit f16");
  EXPECT_EQ(messageOf("i8", {1, 2, 3, -200}, 2),
            "tensor 'blk.0.w' [1, 1]: -200.000000 does not fit i8");
}

TEST(Encode, NotFiniteIsAnError) {
  std::vector<float> values(64);
  values[40] = NAN;
  EXPECT_EQ(messageOf("q4_0", values, 2), "tensor 'blk.0.w' [1, 8]: NaN cannot be encoded");
  values[5] = -INFINITY;
  EXPECT_EQ(messageOf("q8_0", values, 2), "tensor 'blk.0.w' [0, 5]: infinity cannot be encoded");
  EXPECT_EQ(messageOf("f32", values, 2), "tensor 'blk.0.w' [0, 5]: infinity cannot be encoded");
  // Whatever the format; plain integers too.
  for (const KnownFormat &known : knownFormats())
    for (float bad : {NAN, INFINITY, -INFINITY}) {
      std::vector<float> values(2 * 512, 0.5f);
      values[700] = bad;
      EXPECT_EQ(messageOf(known.name, values, 2), std::string("tensor 'blk.0.w' [1, 188]: ") +
                                                      (std::isnan(bad) ? "NaN" : "infinity") +
                                                      " cannot be encoded")
          << known.name.str();
    }
}

TEST(Encode, SlicesGiveTheSameRows) {
  std::vector<float> values = gaussian(6 * 256, 5);
  Spec spec = llvm::cantFail(parse("i4, scale f32[2x32]"));
  Components whole, slice;
  llvm::cantFail(encode(spec, values, 6, 256, whole, "w"));
  llvm::cantFail(
      encode(spec, llvm::ArrayRef(values).slice(2 * 256, 4 * 256), 4, 256, slice, "w", 2));
  EXPECT_EQ(slice.codes.rows, 4);
  for (int64_t r = 0; r < 4; ++r)
    for (int64_t c = 0; c < 256; ++c)
      ASSERT_EQ(slice.codes.get(r, c), whole.codes.get(r + 2, c));
  llvm::Error error = encode(spec, llvm::ArrayRef(values).take_front(256), 1, 256, slice, "w", 3);
  EXPECT_TRUE(bool(error));
  llvm::consumeError(std::move(error));
}
