//===- Streams.h - What leaves each part of the float program ----*- C++ -*-===//
//
// Measuring one replaced weight need not run what comes before it: the residual stream of the float
// program at every boundary is kept on disk, and only the rest of the network runs again, on the
// same numbers as if all of it had. Private to lib/Quantize.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_EVALUATE_STREAMS_H
#define QUERN_LIB_QUANTIZE_EVALUATE_STREAMS_H

#include "quern/Quantize/Program.h"

namespace quern::quantize {

/// Two predictors in turn, for windows of one length that are always run in the same order. Until
/// `replay` all parts run and their streams are kept; then only those from a part on.
class Streams : public Predictor {
public:
  /// `rows`: tokens of a window as run; `folder`: of the file, which has no name.
  Streams(Program &program, size_t rows, llvm::StringRef folder);
  ~Streams() override;
  Streams(const Streams &) = delete;

  /// From now on `run` is for window 0, 1, ... and begins with part `first`. Begins with part 0 if
  /// streams could not be kept.
  void replay(size_t first);

  int64_t vocabulary() const override { return program.vocabulary(); }
  int64_t context() const override { return program.context(); }
  llvm::Expected<std::vector<int32_t>> tokenize(llvm::StringRef text) override {
    return program.tokenize(text);
  }
  llvm::Expected<std::vector<int32_t>> prefix() override { return program.prefix(); }
  llvm::Error run(llvm::ArrayRef<int32_t> tokens, std::vector<float> &logits) override;

private:
  /// Where the stream that leaves `part` begins, in floats.
  size_t place(size_t part) const {
    return (window * (program.parts() - 1) + part) * rows * size_t(program.streamColumns());
  }
  Program &program;
  size_t rows, window = 0, first = 0;
  int file = -1; ///< negative: nothing is kept
  bool recording = true;
  std::vector<float> stream;
};

} // namespace quern::quantize

#endif // QUERN_LIB_QUANTIZE_EVALUATE_STREAMS_H
