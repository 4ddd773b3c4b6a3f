//===- Calibrate.h - Statistics of a model over a text ----------*- C++ -*-===//
//
// Compiles the model in f32 with observers, runs windows of a text through it, and adds up
// what enters each product.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_QUANTIZE_CALIBRATE_H
#define QUERN_QUANTIZE_CALIBRATE_H

#include "quern/Quantize/Statistics.h"
#include <functional>

namespace quern::quantize {

/// The windows of a text: every one a sequence of its own, BOS in front where the model asks.
struct Windows {
  int64_t window = 0;          ///< tokens of the text in each
  std::vector<int32_t> prefix; ///< in front of each
  std::vector<int32_t> tokens; ///< windows x window
  size_t count() const { return window ? tokens.size() / size_t(window) : 0; }
  llvm::ArrayRef<int32_t> at(size_t i) const {
    return llvm::ArrayRef(tokens).slice(i * size_t(window), size_t(window));
  }
};

class Predictor;

/// English prose in the public domain, 280 KB.
llvm::StringRef builtinText();

/// Reads a text, the built-in one if `path` is empty, and cuts it up; a last partial window is
/// dropped. `window` 0: 512 or half the context. `limit`: tokens at most, 0: all; spread evenly
/// over the text. Fails for texts shorter than a window or not valid UTF-8.
llvm::Expected<Windows> readWindows(Predictor &program, llvm::StringRef path, int64_t window,
                                    uint64_t limit);

struct CalibrateOptions {
  std::string model;
  std::string text; ///< a file; empty: the built-in text
  int64_t window = 0;
  uint64_t tokens = 0; ///< at most; 0: the whole text
  unsigned threads = 0;
  /// Gets the share done; returns false to cancel.
  std::function<bool(double)> progress;
};

llvm::Expected<Statistics> calibrate(const CalibrateOptions &options);

} // namespace quern::quantize

#endif // QUERN_QUANTIZE_CALIBRATE_H
