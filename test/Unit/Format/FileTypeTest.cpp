//===- FileTypeTest.cpp - Layouts of rows, and robustness against sizes ---===//
//
// What the gguf package cannot check: types it has no decoder for, slices, the
// canonical layout, and byte counts that do not fit.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/FileType.h"
#include "quern/Format/Known.h"
#include "quern/Format/Number.h"
#include <cstring>
#include <gtest/gtest.h>
#include <random>

using namespace quern::format;

static std::vector<uint8_t> randomBytes(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> bytes(count);
  for (uint8_t &byte : bytes)
    byte = uint8_t(random());
  return bytes;
}

static std::string messageOf(llvm::Error error) {
  return error ? llvm::toString(std::move(error)) : "";
}

static float half(const uint8_t *bytes) {
  return decodeFloat(FloatKind::F16, bytes[0] | bytes[1] << 8);
}

TEST(FileType, StoredBytesAreTheFilesBytes) {
  for (const FileType &type : ggufTypes()) {
    uint64_t row = llvm::cantFail(type.rowBytes(1024));
    EXPECT_EQ(llvm::cantFail(storedBytes(type.spec, {3, 1024})), 3 * row) << type.name.str();
    EXPECT_EQ(ggufType(type.id), &type);
    EXPECT_EQ(ggufType(type.name), &type);
    EXPECT_EQ(ggufType(type.spec), &type);
  }
  EXPECT_EQ(ggufType(9), nullptr); // Q8_1
  EXPECT_EQ(ggufType(4), nullptr);
  EXPECT_EQ(ggufType("q4_0"), nullptr);
}

TEST(FileType, Q1_0IsAHalfAndSigns) {
  const FileType &type = *ggufType("Q1_0");
  std::vector<uint8_t> bytes = randomBytes(36, 1);
  bytes[1] &= 0x3F; // finite scales
  bytes[19] &= 0x3F;
  std::vector<float> out(256);
  llvm::cantFail(type.decode(bytes, 1, 256, out));
  for (int i = 0; i < 256; ++i) {
    const uint8_t *block = &bytes[18 * (i / 128)];
    bool set = block[2 + i % 128 / 8] >> (i % 8) & 1;
    EXPECT_EQ(out[i], set ? half(block) : -half(block)) << i;
  }
}

TEST(FileType, PlainNumbers) {
  auto decoded = [](const char *type, std::vector<uint8_t> bytes, size_t count) {
    std::vector<float> out(count);
    llvm::cantFail(ggufType(type)->decode(bytes, 1, count, out));
    return out;
  };
  EXPECT_EQ(decoded("I8", {0x80, 0x7F}, 2), (std::vector<float>{-128, 127}));
  EXPECT_EQ(decoded("I16", {0x00, 0x80, 0xFF, 0x7F}, 2), (std::vector<float>{-32768, 32767}));
  EXPECT_EQ(decoded("I32", {1, 0, 0, 0x80}, 1), (std::vector<float>{-2147483648.0f}));
  EXPECT_EQ(decoded("I64", {0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, 1),
            (std::vector<float>{-2}));
  double third = 1.0 / 3;
  std::vector<uint8_t> bytes(8);
  std::memcpy(bytes.data(), &third, 8);
  EXPECT_EQ(decoded("F64", bytes, 1), (std::vector<float>{1.0f / 3}));
}

TEST(FileType, SlicesOfRowsAreTheRows) {
  for (const char *name : {"Q4_K", "Q8_0", "IQ1_M", "TQ1_0"}) {
    const FileType &type = *ggufType(name);
    uint64_t row = llvm::cantFail(type.rowBytes(512));
    std::vector<uint8_t> bytes = randomBytes(7 * row, 2);
    Components whole, slice;
    llvm::cantFail(type.unpack(bytes, 7, 512, whole));
    llvm::cantFail(
        type.unpack(llvm::ArrayRef<uint8_t>(bytes).slice(2 * row, 3 * row), 3, 512, slice));
    ASSERT_EQ(slice.codes.rows, 3);
    for (int64_t r = 0; r < 3; ++r)
      for (int64_t c = 0; c < slice.codes.cols; ++c)
        ASSERT_EQ(slice.codes.get(r, c), whole.codes.get(r + 2, c));
  }
}

TEST(FileType, WrongByteCountsAreErrors) {
  for (const FileType &type : ggufTypes()) {
    std::vector<uint8_t> bytes(2 * llvm::cantFail(type.rowBytes(1024)) + 1);
    llvm::ArrayRef<uint8_t> all(bytes);
    Components c;
    std::vector<float> out(2048);
    for (size_t size : {size_t(0), size_t(1), bytes.size() / 2, bytes.size() - 2, bytes.size()}) {
      EXPECT_NE(messageOf(type.unpack(all.take_front(size), 2, 1024, c)), "");
      EXPECT_NE(messageOf(type.decode(all.take_front(size), 2, 1024, out)), "");
    }
    all = all.drop_back();
    EXPECT_EQ(messageOf(type.unpack(all, 2, 1024, c)), "");
    EXPECT_NE(messageOf(type.unpack(all, -2, 1024, c)), "");
    EXPECT_NE(messageOf(type.unpack(all, INT64_MAX, INT64_MAX - 1023, c)), "");
    EXPECT_NE(messageOf(type.unpack({}, 1, -256, c)), "");
    EXPECT_NE(messageOf(type.decode(all, 2, 1024, llvm::MutableArrayRef(out).drop_back())), "");
    std::vector<uint8_t> packed(bytes.size());
    EXPECT_NE(messageOf(type.pack(c, packed)), "");
    c.codes.bytes.pop_back();
    EXPECT_NE(messageOf(type.pack(c, llvm::MutableArrayRef(packed).drop_back())), "");
  }
  Components c;
  EXPECT_EQ(messageOf(ggufType("Q4_K")->unpack({}, 1, 100, c)),
            "Q4_K: rows of 100 elements; expected a multiple of 256");
  EXPECT_EQ(messageOf(ggufType("Q4_0")->unpack({}, 1, 32, c)),
            "Q4_0: 1 rows of 32 elements need 18 bytes; found 0");
}

//===----------------------------------------------------------------------===//
// Canonical layout
//===----------------------------------------------------------------------===//

static std::vector<llvm::ArrayRef<uint8_t>> refs(const std::vector<std::vector<uint8_t>> &arrays) {
  return {arrays.begin(), arrays.end()};
}

TEST(Canonical, ThreeBitsByHand) {
  // Two tiles of eight 3-bit codes: 0..7 LSB first is the byte string 88 C6 FA.
  Spec spec = llvm::cantFail(parse("ui3, scale f16[1x8]"));
  Components c;
  allocate(spec, 0, 1, 12, c);
  for (int i = 0; i < 12; ++i)
    c.codes.set(0, i, i % 8);
  c.scale[0].set(0, 0, 0x3C00);
  c.scale[0].set(0, 1, 0x4000);
  auto arrays = llvm::cantFail(packCanonical(spec, c));
  ASSERT_EQ(arrays.size(), 2u);
  EXPECT_EQ(arrays[0], (std::vector<uint8_t>{0x88, 0xC6, 0xFA, 0x88, 0x06, 0x00}));
  EXPECT_EQ(arrays[1], (std::vector<uint8_t>{0x00, 0x3C, 0x00, 0x40}));
  std::vector<float> out(12);
  llvm::cantFail(decode(spec, c, out));
  EXPECT_EQ(out, (std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7, 0, 2, 4, 6}));
}

TEST(Canonical, EveryKnownFormatRoundTrips) {
  for (const KnownFormat &known : knownFormats()) {
    Spec spec = *knownSpec(known.name);
    if (spec.kind != Spec::Kind::Base || spec.code.base3 || spec.code.table.isLearned())
      continue;
    for (int64_t cols : {1, 37, 256, 300}) {
      uint64_t total = 0;
      std::vector<std::vector<uint8_t>> arrays;
      for (const ComponentInfo &info : canonicalComponents(spec, 5, cols)) {
        arrays.push_back(randomBytes(info.size(), cols));
        total += info.size();
      }
      EXPECT_EQ(total, llvm::cantFail(storedBytes(spec, {5, cols}))) << known.name.str();
      Components first, second;
      llvm::cantFail(unpackCanonical(spec, refs(arrays), 0, 5, cols, first));
      // Bits between the end of a stream and its last byte's end are free, so compare what is read.
      auto packed = llvm::cantFail(packCanonical(spec, first));
      llvm::cantFail(unpackCanonical(spec, refs(packed), 0, 5, cols, second));
      EXPECT_EQ(first, second) << known.name.str();
      for (size_t i = 0; i < arrays.size(); ++i)
        EXPECT_EQ(packed[i].size(), arrays[i].size());
    }
  }
}

TEST(Canonical, TernaryDigitsTakeFiveToAByte) {
  Spec spec = *knownSpec("tq1_0");
  Components c, back;
  allocate(spec, 0, 2, 512, c);
  std::mt19937 random(3);
  for (uint8_t &code : c.codes.bytes)
    code = random() % 3;
  auto arrays = llvm::cantFail(packCanonical(spec, c));
  EXPECT_EQ(arrays[0].size(), 4u * 52);
  llvm::cantFail(unpackCanonical(spec, refs(arrays), 0, 2, 512, back));
  EXPECT_EQ(c, back);
}

TEST(Canonical, WrongSizesAreErrors) {
  Spec spec = *knownSpec("int4_g128_asym");
  std::vector<std::vector<uint8_t>> arrays;
  for (const ComponentInfo &info : canonicalComponents(spec, 3, 256))
    arrays.push_back(randomBytes(info.size(), 4));
  Components c;
  EXPECT_EQ(messageOf(unpackCanonical(spec, refs(arrays), 0, 3, 256, c)), "");
  for (size_t i = 0; i < arrays.size(); ++i) {
    auto broken = arrays;
    broken[i].pop_back();
    EXPECT_NE(messageOf(unpackCanonical(spec, refs(broken), 0, 3, 256, c)), "");
    broken[i].resize(broken[i].size() + 2);
    EXPECT_NE(messageOf(unpackCanonical(spec, refs(broken), 0, 3, 256, c)), "");
  }
  EXPECT_NE(messageOf(unpackCanonical(spec, refs(arrays), 0, 3, INT64_MAX, c)), "");
  arrays.pop_back();
  EXPECT_NE(messageOf(unpackCanonical(spec, refs(arrays), 0, 3, 256, c)), "");
}
