//===- Known.cpp - Formats known by name ----------------------------------===//
//
// One line each: name, spelling, what it is. Everything else about a format follows
// from its spelling.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Known.h"
#include "llvm/Support/ErrorHandling.h"

using namespace quern::format;

namespace quern::format {
llvm::Expected<Spec> parseSpelling(llvm::StringRef text);
}

// clang-format off
static constexpr KnownFormat known[] = {
    // Plain numbers.
    {"f32", "f32", "IEEE single precision"},
    {"f16", "f16", "IEEE half precision"},
    {"bf16", "bf16", "the upper half of f32"},
    {"f64", "f64", "IEEE double precision"},
    {"i8", "i8", "plain integers"},
    {"i16", "i16", "plain integers"},
    {"i32", "i32", "plain integers"},
    {"i64", "i64", "plain integers"},
    {"fp8_e4m3", "f8E4M3FN", "8-bit float, 4 exponent bits"},
    {"fp8_e5m2", "f8E5M2", "8-bit float, 5 exponent bits"},
    // GGUF's block types.
    {"q4_0", "i4, scale f16[1x32]", "GGUF"},
    {"q4_1", "ui4, scale f16[1x32], plus f16[1x32]", "GGUF"},
    {"q5_0", "i5, scale f16[1x32]", "GGUF"},
    {"q5_1", "ui5, scale f16[1x32], plus f16[1x32]", "GGUF"},
    {"q8_0", "i8, scale f16[1x32]", "GGUF"},
    {"q2_K", "ui2, scale f16[1x256] * ui4[1x16], minus f16[1x256] * ui4[1x16]", "GGUF K-quant"},
    {"q3_K", "i3, scale f16[1x256] * i6[1x16]", "GGUF K-quant"},
    {"q4_K", "ui4, scale f16[1x256] * ui6[1x32], minus f16[1x256] * ui6[1x32]", "GGUF K-quant"},
    {"q5_K", "ui5, scale f16[1x256] * ui6[1x32], minus f16[1x256] * ui6[1x32]", "GGUF K-quant"},
    {"q6_K", "i6, scale f16[1x256] * i8[1x16]", "GGUF K-quant"},
    {"iq4_nl", "table<iq4nl>, scale f16[1x32]", "GGUF, non-linear levels"},
    {"iq4_xs", "table<iq4nl>, scale f16[1x256] * i6[1x32]", "GGUF, non-linear levels"},
    {"iq3_s", "table<iq3s>, scale f16[1x256] * ui4[1x32, +0.5, x2]", "GGUF lattice with signs"},
    {"iq3_xxs", "table<iq3xxs>, scale f16[1x256] * ui4[1x32, +0.5, x0.5]", "GGUF lattice with signs"},
    {"iq2_s", "table<iq2s>, scale f16[1x256] * ui4[1x16, +0.5, x0.25]", "GGUF lattice with signs"},
    {"iq2_xs", "table<iq2xs>, scale f16[1x256] * ui4[1x16, +0.5, x0.25]", "GGUF lattice with signs"},
    {"iq2_xxs", "table<iq2xxs>, scale f16[1x256] * ui4[1x32, +0.5, x0.25]", "GGUF lattice with signs"},
    {"iq1_s", "table<iq1>, scale f16[1x256] * ui3[1x32, +0.5, x2], zero ui1[1x32, -0.5, x0.25]", "GGUF ternary lattice"},
    {"iq1_m", "table<iq1>, scale f16[1x256] * ui3[1x16, +0.5, x2], zero ui1[1x8, -0.5, x0.25]", "GGUF ternary lattice"},
    {"tq1_0", "ternary<base3>, scale f16[1x256]", "GGUF, five base-3 digits a byte"},
    {"tq2_0", "ternary, scale f16[1x256]", "GGUF"},
    {"q1_0", "sign, scale f16[1x128]", "GGUF"},
    {"gguf_mxfp4", "table<e2m1x2>, scale f8E8M0Half[1x32]", "MXFP4 as GGUF reads it"},
    {"gguf_nvfp4", "table<e2m1x2>, scale f8UE4M3[1x16, x0.5]", "NVFP4 as GGUF reads it"},
    // Microscaling and other floats in groups.
    {"mxfp4", "f4E2M1FN, scale f8E8M0FNU[1x32]", "OCP microscaling"},
    {"mxfp6_e2m3", "f6E2M3FN, scale f8E8M0FNU[1x32]", "OCP microscaling"},
    {"mxfp6_e3m2", "f6E3M2FN, scale f8E8M0FNU[1x32]", "OCP microscaling"},
    {"mxfp8_e4m3", "f8E4M3FN, scale f8E8M0FNU[1x32]", "OCP microscaling"},
    {"mxfp8_e5m2", "f8E5M2, scale f8E8M0FNU[1x32]", "OCP microscaling"},
    {"nvfp4", "f4E2M1FN, scale f32[*] * f8E4M3FN[1x16]", "two scale levels"},
    {"fp8_e4m3_tensor", "f8E4M3FN, scale f32[*]", "one scale"},
    {"fp8_e4m3_channel", "f8E4M3FN, scale f32[1x*]", "a scale per row"},
    {"fp8_e5m2_channel", "f8E5M2, scale f32[1x*]", "a scale per row"},
    {"fp8_block128", "f8E4M3FN, scale f32[128x128]", "square blocks"},
    {"fp6_e2m3_channel", "f6E2M3FN, scale f32[1x*]", "a scale per row"},
    {"fp6_e3m2_channel", "f6E3M2FN, scale f32[1x*]", "a scale per row"},
    {"fp4_channel", "f4E2M1FN, scale f32[1x*]", "a scale per row"},
    {"fp4_g32", "f4E2M1FN, scale f16[1x32]", "grouped"},
    {"nf4", "table<nf4>, scale f16[1x64]", "quantiles of a normal distribution"},
    {"nf4_double", "table<nf4>, scale f32[*] * ui8[1x64]", "the same, scales quantized again"},
    // Integers.
    {"int8_tensor", "i8, scale f32[*]", "one scale"},
    {"int8_channel", "i8, scale f32[1x*]", "a scale per row"},
    {"int8_channel_asym", "ui8, scale f32[1x*], zero ui8[1x*]", "a scale and a zero point per row"},
    {"int8_g128", "i8, scale f16[1x128]", "grouped"},
    {"int4_tensor", "i4, scale f32[*]", "one scale"},
    {"int4_channel", "i4, scale f32[1x*]", "a scale per row"},
    {"int4_channel_asym", "ui4, scale f32[1x*], zero ui4[1x*]", "a scale and a zero point per row"},
    {"int4_g32", "i4, scale f16[1x32]", "grouped (the format of q4_0)"},
    {"int4_g64", "i4, scale f16[1x64]", "grouped"},
    {"int4_g128", "i4, scale f16[1x128]", "grouped"},
    {"int4_g128_asym", "ui4, scale f16[1x128], zero ui4[1x128]", "GPTQ and AWQ"},
    {"int3_channel", "i3, scale f32[1x*]", "a scale per row"},
    {"int3_g24", "i3, scale f16[1x24]", "grouped"},
    {"int3_g64", "i3, scale f16[1x64]", "grouped"},
    {"int3_g128_asym", "ui3, scale f16[1x128], zero ui3[1x128]", "GPTQ"},
    {"int2_channel", "i2, scale f32[1x*]", "a scale per row"},
    {"int2_g64_asym", "ui2, scale f16[1x64], zero ui2[1x64]", "grouped"},
    {"int2_g16", "i2, scale f16[1x16]", "grouped"},
    // What executables and IR choose from: groups scaled relative to 256 columns, by either sign.
    {"lm2_g16", "table<lm2>, scale f16[1x256] * i4[1x16]", "Lloyd-Max levels"},
    {"lm3_g32", "table<lm3>, scale f16[1x256] * i4[1x32]", "Lloyd-Max levels"},
    {"lm3_g16", "table<lm3>, scale f16[1x256] * i6[1x16]", "Lloyd-Max levels"},
    {"lm4_g32", "table<lm4>, scale f16[1x256] * i6[1x32]", "Lloyd-Max levels"},
    {"lm5_g32", "table<lm5>, scale f16[1x256] * i6[1x32]", "Lloyd-Max levels"},
    {"lm6_g32", "table<lm6>, scale f16[1x256] * i8[1x32]", "Lloyd-Max levels"},
    {"int7_g32", "i7, scale f16[1x256] * i8[1x32]", "grouped, two scale levels"},
    {"int8_g32", "i8, scale f16[1x256] * i8[1x32]", "grouped, two scale levels"},
    // Few bits.
    {"bitnet", "ternary, scale f32[*]", "BitNet b1.58"},
    {"binary_channel", "sign, scale f32[1x*]", "sign planes"},
    {"two_planes", "sum<[sign, scale f16[1x64], sign, scale f16[1x64]]>", "two scaled sign planes"},
    {"pow2_4", "pow2<4>, scale f32[1x*]", "powers of two"},
    {"vptq", "sum<[table<8, 12 bit, f16>, table<8, 8 bit, f16>]>", "learned vector codebooks with a residual"},
    {"llm_int8", "split<outliers: f16, rest: i8, scale f32[1x*]>", "outlier columns apart"},
};
// clang-format on

llvm::ArrayRef<KnownFormat> quern::format::knownFormats() { return known; }

static const std::vector<Spec> &specs() {
  static const std::vector<Spec> all = [] {
    std::vector<Spec> specs;
    for (const KnownFormat &format : known)
      specs.push_back(llvm::cantFail(parseSpelling(format.spelling)));
    return specs;
  }();
  return all;
}

const Spec *quern::format::knownSpec(llvm::StringRef name) {
  // GGUF writes its types in capitals but for the K (Q4_K, IQ2_XXS).
  auto matches = [&](llvm::StringRef candidate) {
    return candidate == name || (candidate.equals_insensitive(name) && name == name.upper());
  };
  for (size_t i = 0; i < std::size(known); ++i)
    if (matches(known[i].name))
      return &specs()[i];
  return nullptr;
}

llvm::StringRef quern::format::knownName(const Spec &spec) {
  for (size_t i = 0; i < std::size(known); ++i)
    if (specs()[i] == spec)
      return known[i].name;
  return "";
}
