//===- EncodeTest.cpp - Rounding real matrices into every format ----------===//
//
// Byte identity with GGUF's tools is OracleTest's; here are error bounds for every
// known format, and the edges: zeros, ties, subnormal scales, NaN and infinity.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Encode.h"
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
    // Plain integers round the values themselves; learned tables and splits need more than values.
    bool plainInteger = spec.isPlain() && !spec.code.number.isFloat();
    if (plainInteger || known.name == "vptq" || known.name == "llm_int8")
      continue;
    double error = relativeError(values, roundTrip(spec, values, 8, 512));
    EXPECT_LT(error, bound(known, spec))
        << known.name.str() << " at " << bitsPerWeight(spec) << " bits";
    EXPECT_GT(error, spec.isPlain() ? -1 : 1e-6);
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
    if (known.name == "vptq" || known.name == "llm_int8" || spec.code.kind == Code::Kind::Sign)
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
  EXPECT_EQ(messageOf("table<8, 8 bit>", std::vector<float>(64), 1), ""); // learned
  EXPECT_NE(messageOf("llm_int8", std::vector<float>(64), 1), "");
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
