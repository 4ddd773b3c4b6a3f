//===- Calibrate.h - Statistics of a model over a text ----------*- C++ -*-===//
//
// Compiles the model in f32 with observers, runs windows of a text through it part by part, and
// adds up what enters each product.
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
class Program;

/// English prose in the public domain, 280 KB.
llvm::StringRef builtinText();

/// A text to calibrate with.
struct TextSource {
  std::string path; ///< a file; empty: the built-in text
  double share = 1; ///< of its windows that are read, in (0, 1]: the weight of the text
  /// JSON lines of conversations (import::readMessages), each a sequence in the model's chat
  /// format.
  bool chat = false;
};

/// Reads a text, the built-in one if `path` is empty, and cuts it up; a last partial window is
/// dropped. `window` 0: 512 or half the context. `limit`: tokens at most, 0: all; spread evenly
/// over the text. Fails for texts shorter than a window or not valid UTF-8.
llvm::Expected<Windows> readWindows(Predictor &program, llvm::StringRef path, int64_t window,
                                    uint64_t limit);
/// The same of several texts, one after the other; the limit is divided as their windows are. No
/// text means the built-in one. Conversations are joined, and cut up like a text; `model` has the
/// chat template for them.
llvm::Expected<Windows> readWindows(Predictor &program, llvm::ArrayRef<TextSource> texts,
                                    int64_t window, uint64_t limit, llvm::StringRef model = "");

struct CalibrateOptions {
  std::string model;
  std::vector<TextSource> texts; ///< none: the built-in text
  int64_t window = 0;
  uint64_t tokens = 0; ///< at most; 0: all
  unsigned threads = 0;
  /// Keep the first token of every window apart, without a hessian.
  bool firstToken = false;
  /// Collect products of two columns; not needed for an importance matrix.
  bool hessians = true;
  /// A folder that keeps what is done so far: a run that was interrupted goes on from there, to the
  /// same bytes. Empty: a temporary one.
  std::string work;
  /// Gets the share done; returns false to cancel.
  std::function<bool(double)> progress;
  std::function<void(const std::string &)> note;
  /// Called with what entered the products of a part, before the next part is run. It may replace
  /// weights of the program; the part then runs once more, so that what enters the next is what the
  /// new weights make. Nothing of such a run is kept in `work`, and no file is written: each part's
  /// statistics are gone after the call, and those that are returned are empty.
  std::function<llvm::Error(Program &, size_t part, const Statistics &)> between;
};

/// Writes the file `output`, an importance matrix if its name says so; what it holds. Without a
/// name it is kept in `options.work`, where another call finds it. Memory: what enters one
/// attention or feed-forward part of the model is added up at a time, and the residual stream
/// between parts lies on disk.
llvm::Expected<Statistics> calibrate(const CalibrateOptions &options, llvm::StringRef output,
                                     bool force);

} // namespace quern::quantize

#endif // QUERN_QUANTIZE_CALIBRATE_H
