//===- SpecTest.cpp - Spelling, validation and sizes of formats -----------===//
//
// Round trips of every known spelling, one case per rule of validate(), and sizes
// worked out by hand.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Spec.h"
#include "quern/Format/Known.h"
#include "quern/Format/Size.h"
#include "llvm/Support/Error.h"
#include <gtest/gtest.h>

using namespace quern::format;

static Spec parsed(llvm::StringRef text) {
  llvm::Expected<Spec> spec = parse(text);
  if (!spec) {
    ADD_FAILURE() << text.str() << ": " << llvm::toString(spec.takeError());
    return {};
  }
  return *spec;
}

static std::string errorOf(llvm::StringRef text) {
  llvm::Expected<Spec> spec = parse(text);
  if (spec)
    return "accepted as " + print(*spec);
  return llvm::toString(spec.takeError());
}

static uint64_t bytes(llvm::StringRef text, llvm::ArrayRef<int64_t> shape,
                      llvm::ArrayRef<int64_t> split = {}) {
  return llvm::cantFail(storedBytes(parsed(text), shape, split));
}

TEST(Spec, KnownSpellingsRoundTrip) {
  for (const KnownFormat &format : knownFormats()) {
    Spec spec = parsed(format.spelling);
    EXPECT_EQ(print(spec), format.spelling.str());
    EXPECT_EQ(parsed(print(spec)), spec);
    EXPECT_EQ(parsed(format.name), spec);
  }
}

TEST(Spec, OtherSpellingsRoundTrip) {
  for (const char *text : {
           "power<i4, 0.5>, scale f32[1x*]",
           "table<2, [0, 1, -2.5, 3.1415927, 1e-30, 5, 6, 7]>, scale bf16[1x8]",
           "table<4, 8 bit, bf16, 2 parts, full signs>, scale f16[1x32]",
           "i8, scale f32[*x128]",
           "i8, scale f32[16x*], zero i8[16x*, -0.5, x0.1]",
           "split<a 32: f16, b 64: i8, scale f32[1x*], rest: ui3, plus f32[1x*]>",
           "split<a: sum<[sign, scale f16[1x8], ternary]>, b: ui3, plus f32[1x*]>",
       })
    EXPECT_EQ(print(parsed(text)), text);
  EXPECT_EQ(parsed(" ui4 ,scale f16 [ 1x32 ] "), parsed("ui4, scale f16[1x32]"));
  EXPECT_EQ(parsed("Q4_K"), parsed("q4_K"));
}

TEST(Spec, ErrorsSayWhatWasExpected) {
  struct {
    const char *text, *message;
  } cases[] = {
      {"", "expected a number type"},
      {"q4", "expected a number type such as i4, ui6 or f16, found 'q4'"},
      {"i4,", "expected the end of the format, found ','"},
      {"i4, scale", "expected a number type"},
      {"i4, scale f16[1x32", "expected ']', found the end"},
      {"i4, scale f16[0x32]", "a tile extent of at least 1"},
      {"i4, scale f16[1x99999999999999999999]", "expected a tile extent or '*'"},
      {"i4, scale f16[1x32], scale f16[1x32]", "at most once"},
      {"i4, plus f16[1x32], minus f16[1x32]", "at most once"},
      {"i33", "expected 1 to 32, or 64"},
      {"i1", "use sign or ui1"},
      {"i0", "expected a number type"},
      {"pow2<1>", "expected 2 to 8 bits"},
      {"pow2<400>", "at most 64"},
      {"power<ui4, 2>", "expected i2 to i8"},
      {"power<i4, 0>", "exponent outside"},
      {"table<nf5>", "one of the tables nf4"},
      {"table<1, [1, 2, 3]>", "need 4"},
      {"table<0, [1, 2]>", "expected 1 to 64"},
      {"table<1, [1, 1e99]>", "infinite"},
      {"table<1, 17 bit>", "expected 1 to 16"},
      {"table<8, 16 bit, 3 parts>", "at most 32 bits"},
      {"table<8, 8 bit>, scale f16[1x12]", "cuts an index of 8"},
      {"i4, scale f16[1x32] * ui6[1x24]", "does not divide"},
      {"i4, scale f16[1x32] * ui6[1x32]", "the same tile"},
      {"i4, scale f16[1x32] * ui6[*]", "does not divide"},
      {"i4, scale f16[1x48], zero i4[1x32]", "no multiple of every other"},
      {"i4, scale f16[1x32, x0]", "multiplier"},
      {"i4, scale f16[1x32, *2]", "'xmultiplier'"},
      {"sum<[i4]>", "expected 2 to 16"},
      {"sum<[i4, sum<[i4, i4]>]>", "must be codes with levels"},
      {"split<a: i4, a: i8>", "two column sets named 'a'"},
      {"split<a: i4, b: split<c: i4, d: i4>>", "may not contain another split"},
      {"split<a 31: i4, b: i8>", "a column set of 31 columns; expected a multiple of 32"},
      {"split<a 32: i4, b: i8, c: i8>", "a column set of 0 columns; expected a multiple of 32"},
      {"split<a: i4, b 32: i8>", "a last set that takes what columns remain"},
  };
  for (auto [text, message] : cases)
    EXPECT_NE(errorOf(text).find(message), std::string::npos) << text << " -> " << errorOf(text);
}

TEST(Spec, ValidateRejectsWhatNoSpellingSays) {
  auto rejects = [](Spec spec) {
    llvm::Error error = validate(spec);
    return llvm::toString(std::move(error)).find("malformed format") == 0;
  };
  Spec spec = parsed("i4, scale f16[1x32]");
  auto with = [&](auto change) {
    Spec copy = spec;
    change(copy);
    return copy;
  };
  EXPECT_FALSE(rejects(spec));
  EXPECT_TRUE(rejects(with([](Spec &s) { s.offsetSign = -1; })));
  EXPECT_TRUE(rejects(with([](Spec &s) { s.offsetSign = 0; })));
  EXPECT_TRUE(rejects(with([](Spec &s) { s.terms.resize(2); })));
  EXPECT_TRUE(rejects(with([](Spec &s) { s.code.exponent = 2; })));
  EXPECT_TRUE(rejects(with([](Spec &s) { s.code.base3 = true; })));
  EXPECT_TRUE(rejects(with([](Spec &s) { s.code.table.dim = 2; })));
  EXPECT_TRUE(rejects(with([](Spec &s) { s.code.number.floatKind = FloatKind::F16; })));
  EXPECT_TRUE(rejects(with([](Spec &s) { s.scale[0].number.bits = 15; })));
  EXPECT_TRUE(rejects(with([](Spec &s) { s.scale[0].tile.cols = -32; })));
  EXPECT_TRUE(rejects(with([](Spec &s) { s.scale[0].addend = -0.0f; })));
  EXPECT_TRUE(rejects(with([](Spec &s) { s.kind = Spec::Kind::Sum; })));
  Spec table = parsed("iq2_xxs");
  table.code.table.dim = 4;
  EXPECT_TRUE(rejects(table));
}

TEST(Size, WorkedByHand) {
  EXPECT_EQ(bytes("q4_0", {4096, 4096}), 4096u * 128 * 18);
  EXPECT_EQ(bytes("q4_K", {3, 2, 512}), 3u * 2 * 2 * 144);
  EXPECT_EQ(bytes("int3_g24", {10, 96}), 10u * 4 * (9 + 2));
  // 100 columns are padded to 5 tiles of 24.
  EXPECT_EQ(bytes("int3_g24", {10, 100}), 10u * 5 * (9 + 2));
  EXPECT_EQ(bytes("int8_channel", {10, 100}), 10u * (100 + 4));
  EXPECT_EQ(bytes("int4_channel", {10, 101}), 10u * (51 + 4));
  EXPECT_EQ(bytes("bitnet", {10, 101}), 10u * 26 + 4);
  EXPECT_EQ(bytes("ternary<base3>, scale f16[1x256]", {2, 512}), 4u * 54);
  EXPECT_EQ(bytes("nvfp4", {10, 40}), 10u * 3 * (8 + 1) + 4);
  EXPECT_EQ(bytes("fp8_block128", {200, 300}), 200u * 384 + 2 * 3 * 4);
  EXPECT_EQ(bytes("vptq", {4, 64}), 4u * 12 + 4 * 8 + (4096 + 256) * 8 * 2);
  EXPECT_EQ(bytes("llm_int8", {10, 100}, {4, 96}), 10u * 8 + 10 * (96 + 4) + 400);
  EXPECT_EQ(bytes("f32", {7}), 28u);
  EXPECT_EQ(bytes("f32", {}), 4u);
  EXPECT_EQ(bytes("q4_0", {0, 4096}), 0u);
}

TEST(Size, ImpossibleShapesAreErrors) {
  auto fails = [](llvm::StringRef text, llvm::ArrayRef<int64_t> shape,
                  llvm::ArrayRef<int64_t> split = {}) {
    llvm::Expected<uint64_t> size = storedBytes(parsed(text), shape, split);
    if (size)
      return false;
    llvm::consumeError(size.takeError());
    return true;
  };
  EXPECT_TRUE(fails("f32", {-1, 4}));
  EXPECT_TRUE(fails("f32", {int64_t(1) << 55, int64_t(1) << 55}));
  EXPECT_TRUE(fails("f32", {int64_t(1) << 40, int64_t(1) << 40, 1, 1}));
  EXPECT_TRUE(fails("f64", {INT64_MAX, 1}));
  EXPECT_TRUE(fails("llm_int8", {10, 100}));
  EXPECT_TRUE(fails("llm_int8", {10, 100}, {4, 95}));
  EXPECT_TRUE(fails("llm_int8", {10, 100}, {-4, 104}));
}

TEST(Size, BitsPerWeight) {
  EXPECT_EQ(bitsPerWeight(parsed("q4_K")), 4.5);
  EXPECT_EQ(bitsPerWeight(parsed("iq2_xxs")), 2.0625);
  EXPECT_EQ(bitsPerWeight(parsed("tq1_0")), 1.6875);
  EXPECT_EQ(bitsPerWeight(parsed("int8_channel")), 8);
}
