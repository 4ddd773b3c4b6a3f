//===- OracleTest.cpp - GGUF types against the gguf Python package --------===//
//
// Reads what test/Format/Inputs/gguf_oracle.py wrote; test/Format/gguf-oracle.test runs
// both. Without the script's output these tests are skipped.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Encode.h"
#include "quern/Format/FileType.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/MemoryBuffer.h"
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <gtest/gtest.h>
#include <set>

using namespace quern::format;

namespace {
constexpr int64_t rows = 16, cols = 1024;

class Oracle : public testing::Test {
protected:
  void SetUp() override {
    const char *path = std::getenv("QUERN_FORMAT_ORACLE");
    if (!path)
      GTEST_SKIP() << "QUERN_FORMAT_ORACLE names no folder";
    folder = path;
  }

  /// The file's contents as T; empty if there is no such file.
  template <typename T> std::vector<T> read(const llvm::Twine &name) {
    auto buffer = llvm::MemoryBuffer::getFile(folder + "/" + name);
    if (!buffer)
      return {};
    std::vector<T> data((*buffer)->getBufferSize() / sizeof(T));
    std::memcpy(data.data(), (*buffer)->getBufferStart(), data.size() * sizeof(T));
    return data;
  }

  std::string folder;
};
} // namespace

/// Index of the first element that differs in its bits (all NaNs are alike), or -1.
static int64_t firstDifference(llvm::ArrayRef<float> a, llvm::ArrayRef<float> b) {
  for (size_t i = 0; i < a.size(); ++i)
    if (std::memcmp(&a[i], &b[i], 4) != 0 && !(std::isnan(a[i]) && std::isnan(b[i])))
      return int64_t(i);
  return -1;
}

TEST_F(Oracle, DecodesAsGguf) {
  // Types the package has no decoder for: FileTypeTest checks those.
  const std::set<std::string> without = {"Q1_0", "I8", "I16", "I32", "I64", "F64"};
  for (const FileType &type : ggufTypes()) {
    auto bytes = read<uint8_t>(type.name + ".bytes");
    auto expected = read<float>(type.name + ".f32");
    if (without.count(type.name.str()))
      continue;
    ASSERT_EQ(expected.size(), size_t(rows * cols)) << type.name.str();
    std::vector<float> decoded(rows * cols);
    llvm::Error error = type.decode(bytes, rows, cols, decoded);
    ASSERT_FALSE(error) << llvm::toString(std::move(error));
    int64_t at = firstDifference(decoded, expected);
    EXPECT_EQ(at, -1) << type.name.str() << " element " << at << ": " << decoded[at] << " expected "
                      << expected[at];
  }
}

TEST_F(Oracle, PacksBackToTheSameBytes) {
  for (const FileType &type : ggufTypes()) {
    // Several bytes read as the same five ternary digits; of random bytes the values must return.
    bool unique = type.name != "TQ1_0";
    auto bytes = read<uint8_t>(type.name + (unique ? ".bytes" : ".out"));
    if (bytes.empty())
      continue;
    Components components;
    llvm::cantFail(type.unpack(bytes, rows, cols, components));
    std::vector<uint8_t> packed(bytes.size());
    llvm::cantFail(type.pack(components, packed));
    EXPECT_EQ(packed, bytes) << type.name.str();
  }
}

TEST_F(Oracle, EncodesAsGguf) {
  const std::set<std::string> encoded = {"F32",  "F16",  "BF16",  "Q4_0",  "Q4_1", "Q5_0",
                                         "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4"};
  for (const FileType &type : ggufTypes()) {
    auto values = read<float>(type.name + ".in");
    auto expected = read<uint8_t>(type.name + ".out");
    ASSERT_EQ(!values.empty(), encoded.count(type.name.str()) == 1) << type.name.str();
    if (values.empty())
      continue;
    Components components;
    llvm::Error error = encode(type.spec, values, rows, cols, components, "x");
    ASSERT_FALSE(error) << llvm::toString(std::move(error));
    std::vector<uint8_t> bytes(expected.size());
    llvm::cantFail(type.pack(components, bytes));
    for (size_t i = 0; i < bytes.size(); ++i)
      ASSERT_EQ(bytes[i], expected[i]) << type.name.str() << " row " << i / (bytes.size() / rows)
                                       << " block " << i % (bytes.size() / rows) / type.blockBytes
                                       << " byte " << i % (bytes.size() / rows) % type.blockBytes;
  }
}
