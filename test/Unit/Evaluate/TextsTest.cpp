//===- TextsTest.cpp - Which windows of which texts are read --------------===//
#include "quern/Quantize/Calibrate.h"
#include "quern/Quantize/Predictor.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/raw_ostream.h"
#include <gtest/gtest.h>

using namespace quern::quantize;

namespace {
/// Whose tokens are the bytes of the text.
struct ByteModel : Predictor {
  int64_t vocabulary() const override { return 257; }
  int64_t context() const override { return 64; }
  llvm::Expected<std::vector<int32_t>> tokenize(llvm::StringRef text) override {
    return std::vector<int32_t>(text.bytes_begin(), text.bytes_end());
  }
  llvm::Expected<std::vector<int32_t>> prefix() override { return std::vector<int32_t>{256}; }
  llvm::Error run(llvm::ArrayRef<int32_t>, std::vector<float> &) override {
    return llvm::createStringError("not run");
  }
};

struct Text {
  llvm::SmallString<128> path;
  /// Each character is a window of four.
  explicit Text(llvm::StringRef windows, llvm::StringRef rest = "") {
    EXPECT_FALSE(llvm::sys::fs::createTemporaryFile("text", "txt", path));
    std::error_code ec;
    llvm::raw_fd_ostream os(path, ec);
    for (char c : windows)
      os << std::string(4, c);
    os << rest;
  }
  ~Text() { llvm::sys::fs::remove(path); }
  TextSource with(double share) const { return {path.str().str(), share}; }
};

/// The windows that are read, by their characters.
std::string read(llvm::ArrayRef<TextSource> texts, uint64_t limit = 0) {
  ByteModel model;
  llvm::Expected<Windows> windows = readWindows(model, texts, 4, limit, "");
  if (!windows)
    return llvm::toString(windows.takeError());
  EXPECT_EQ(windows->prefix, std::vector<int32_t>{256});
  EXPECT_EQ(windows->tokens.size(), 4 * windows->count());
  std::string out;
  for (size_t i = 0; i < windows->count(); ++i) {
    EXPECT_EQ(windows->at(i), llvm::ArrayRef(std::vector<int32_t>(4, windows->at(i)[0])));
    out += char(windows->at(i)[0]);
  }
  return out;
}
} // namespace

TEST(Texts, SharesAndLimitsAreSpreadEvenly) {
  Text digits("012345678", "9"), letters("abcd");
  EXPECT_EQ(read(digits.with(1)), "012345678");
  EXPECT_EQ(read(digits.with(1), 12), "036");
  EXPECT_EQ(read(digits.with(0.5)), "01357");
  EXPECT_EQ(read(digits.with(0.01)), "0");
  TextSource both[] = {digits.with(1), letters.with(0.5)};
  EXPECT_EQ(read(both), "012345678ac");
  // The limit is divided as the windows are, and leaves none of the texts out.
  EXPECT_EQ(read(both, 22), "0246a");
  EXPECT_EQ(read(both, 1000), "012345678ac");
}

TEST(Texts, WhatIsNoText) {
  Text none("", "abc"), good("a");
  EXPECT_EQ(read(none.with(1)),
            ("'" + none.path + "' has 3 tokens, fewer than one window of 4").str());
  ByteModel model;
  for (int64_t window : {1, 64})
    EXPECT_EQ(llvm::toString(readWindows(model, good.path, window, 0).takeError()),
              "a window of " + std::to_string(window) + " tokens does not fit the context of 64");
  EXPECT_EQ(llvm::cantFail(readWindows(model, "", 0, 0)).window, 32);
}
