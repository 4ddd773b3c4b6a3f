// What is packed for a program is what the program unpacks, and damage is noticed or harmless.
#include "quern/Emit/Lzma.h"
#include "quern/Runtime/Lzma.h"
#include "quern/Runtime/PackedCode.h"
#include <gtest/gtest.h>
#include <random>

using namespace quern;

namespace {
bool unpack(llvm::ArrayRef<uint8_t> packed, std::vector<uint8_t> &out) {
  std::vector<uint16_t> states(runtime::lzmaStates);
  return runtime::decodeLzma(packed.data(), packed.size(), out.data(), out.size(), states.data());
}

/// Bytes of several kinds: noise, runs, repetitions near and far, text.
std::vector<uint8_t> mixture(size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> bytes;
  while (bytes.size() < size) {
    size_t n = 1 + random() % 700;
    switch (random() % 4) {
    case 0:
      for (size_t i = 0; i < n; ++i)
        bytes.push_back(uint8_t(random()));
      break;
    case 1:
      bytes.insert(bytes.end(), n, uint8_t(random() % 3));
      break;
    case 2:
      for (size_t i = 0, from = bytes.empty() ? 0 : random() % bytes.size(); i < n && from < bytes.size(); ++i)
        bytes.push_back(bytes[from + i % (bytes.size() - from)]);
      break;
    default:
      for (size_t i = 0; i < n; ++i)
        bytes.push_back(uint8_t("etaoin shrdlu"[random() % 13]));
    }
  }
  bytes.resize(size);
  return bytes;
}

TEST(Pack, LzmaReadsBack) {
  for (size_t size : {size_t(0), size_t(1), size_t(2), size_t(300), size_t(70'000), size_t(150'000)}) {
    std::vector<uint8_t> bytes = mixture(size, unsigned(size));
    auto packed = emit::encodeLzma(bytes);
    ASSERT_TRUE(bool(packed));
    std::vector<uint8_t> back(size, 0xAA);
    EXPECT_TRUE(unpack(*packed, back)) << size;
    EXPECT_EQ(back, bytes) << size;
  }
}

TEST(Pack, DamagedStreamsStayInside) {
  std::vector<uint8_t> bytes = mixture(20'000, 1), back(bytes.size());
  std::vector<uint8_t> packed = llvm::cantFail(emit::encodeLzma(bytes));
  for (size_t size = 0; size < packed.size() * 9 / 10; size += 97)
    EXPECT_FALSE(unpack(llvm::ArrayRef(packed).take_front(size), back)) << size;
  for (unsigned seed = 0; seed < 200; ++seed) { // whatever comes out: a sanitizer watches
    std::mt19937 random(seed);
    std::vector<uint8_t> damaged = packed;
    for (unsigned i = 0; i < 3; ++i)
      damaged[random() % damaged.size()] = uint8_t(random());
    unpack(damaged, back);
  }
}

TEST(Pack, AddressesConvertBack) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    std::vector<uint8_t> code(5000);
    for (size_t i = 0; i < code.size(); ++i)
      code[i] = random() % 6 ? uint8_t(random() % 3 ? random() : random() % 2 ? 0 : 0xFF)
                             : uint8_t(0xE8 + random() % 2);
    std::vector<uint8_t> converted = code;
    runtime::convertAddresses<true>(converted.data(), 100, 4900, code.size());
    EXPECT_NE(converted, code);
    runtime::convertAddresses<false>(converted.data(), 100, 4900, code.size());
    EXPECT_EQ(converted, code);
  }
  // Two calls of one place become equal bytes.
  std::vector<uint8_t> code(64);
  for (size_t at : {size_t(8), size_t(20)}) {
    code[at] = 0xE8;
    code[at + 1] = uint8_t(50 - at - 5);
  }
  runtime::convertAddresses<true>(code.data(), 0, code.size(), code.size());
  EXPECT_EQ(code[9], code[21]);
}
} // namespace
