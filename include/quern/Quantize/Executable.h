//===- Executable.h - A finished program under evaluation -------*- C++ -*-===//
//
// An executable that `quern compile` or `quern quantize` wrote, as it is: run in its own process
// with its own kernels and formats, its weights read out of its payload.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_QUANTIZE_EXECUTABLE_H
#define QUERN_QUANTIZE_EXECUTABLE_H

#include "quern/Quantize/Program.h"

namespace quern::runtime {
class Payload;
class Tokenizer;
} // namespace quern::runtime

namespace quern::quantize {

class Executable : public Predictor {
public:
  /// Opens the payload; nothing is run. Fails for files that end in no payload, or a damaged one.
  static llvm::Expected<std::unique_ptr<Executable>> open(llvm::StringRef path, unsigned threads);
  ~Executable() override;

  int64_t vocabulary() const override { return vocabularySize; }
  int64_t context() const override { return positions; }
  llvm::Expected<std::vector<int32_t>> tokenize(llvm::StringRef text) override;
  llvm::Expected<std::vector<int32_t>> prefix() override;
  /// One run of the program, whose log-probabilities come back in 16-bit steps: an error of about
  /// 1e-8 in a divergence. `tokens` begin with prefix().
  llvm::Error run(llvm::ArrayRef<int32_t> tokens, std::vector<float> &logits) override;

  /// Decodes all weights into the place of those of `program`, the float engine of `model`, in the
  /// order of its rows. Fails where the two have other tensors, and for programs that compute
  /// something else.
  llvm::Error decodeInto(Program &program, llvm::StringRef model) const;

private:
  Executable();
  std::string path;
  unsigned threads = 0;
  int64_t vocabularySize = 0, positions = 0;
  std::unique_ptr<runtime::Payload> payload;
  std::unique_ptr<runtime::Tokenizer> tokenizer;
  llvm::json::Object metadata;
};

/// The engine that runs `model` as it is: an executable in a process of its own, anything else as
/// Program::create makes it.
llvm::Expected<std::unique_ptr<Predictor>> createPredictor(llvm::StringRef model,
                                                           const ProgramOptions &options);

} // namespace quern::quantize

#endif // QUERN_QUANTIZE_EXECUTABLE_H
