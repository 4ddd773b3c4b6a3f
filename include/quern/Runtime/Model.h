//===- Model.h - Engine, tokenizer and metadata together --------*- C++ -*-===//
//
// What the command line and the C interface both hold.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_RUNTIME_MODEL_H
#define QUERN_RUNTIME_MODEL_H

#include "quern/Runtime/Engine.h"
#include "quern/Runtime/Json.h"
#include "quern/Runtime/Tokenizer.h"

namespace quern::runtime {

struct Model {
  std::unique_ptr<Engine> engine;
  std::unique_ptr<Tokenizer> tokenizer; ///< null when the payload has none
  std::string metadataText;             ///< JSON, see docs/Runtime.md
  Json metadata;

  Status load(const EngineOptions &options);
  Status noTokenizer() const;
  /// Ids of `text`; `special`: special tokens in the text are recognised; `prefix`: what the model
  /// asks for in front of a text (BOS) is put there.
  Status tokenize(std::string_view text, bool special, bool prefix,
                  std::vector<int32_t> &ids) const;
};

} // namespace quern::runtime

#endif // QUERN_RUNTIME_MODEL_H
