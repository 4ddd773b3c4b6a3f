//===- Predictor.h - Whatever predicts the next token -----------*- C++ -*-===//
//
// What evaluation needs of a model: a program in this process (Program.h) or a finished executable
// (Executable.h).
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_QUANTIZE_PREDICTOR_H
#define QUERN_QUANTIZE_PREDICTOR_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <vector>

namespace quern::quantize {

class Predictor {
public:
  virtual ~Predictor() = default;
  virtual int64_t vocabulary() const = 0;
  /// Positions of a sequence, at most.
  virtual int64_t context() const = 0;
  /// Ids of a text, without special tokens.
  virtual llvm::Expected<std::vector<int32_t>> tokenize(llvm::StringRef text) = 0;
  /// What the model wants in front of every text: its BOS, or nothing.
  virtual llvm::Expected<std::vector<int32_t>> prefix() = 0;
  /// Runs a sequence from its start; `logits` [tokens][vocabulary] receives all rows.
  virtual llvm::Error run(llvm::ArrayRef<int32_t> tokens, std::vector<float> &logits) = 0;
};

} // namespace quern::quantize

#endif // QUERN_QUANTIZE_PREDICTOR_H
