//===- Tokenizer.h - Tokenizers as model files declare them -----*- C++ -*-===//
//
// Reads tokenizer.json or GGUF metadata into runtime::TokenizerData. Anything a
// file asks for that cannot be done exactly is an error that names it.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_IMPORT_TOKENIZER_H
#define QUERN_IMPORT_TOKENIZER_H

#include "quern/Import/ModelFile.h"
#include "quern/Runtime/TokenizerData.h"

namespace quern::import {

/// The tokenizer of an opened model, whichever container it came from.
llvm::Expected<runtime::TokenizerData> readTokenizer(const ModelFile &model);

/// Opens what has a tokenizer, with or without a model: a GGUF file, or a tokenizer.json (or a
/// directory that holds one) with the documents beside it. Only the metadata is read.
llvm::Expected<ModelFile> openTokenizer(llvm::StringRef path);

/// From the documents themselves; `config` and `generation` may be null. `where` names the source
/// in messages.
llvm::Expected<runtime::TokenizerData> tokenizerFromJson(const llvm::json::Object &tokenizer,
                                                         const llvm::json::Object *config,
                                                         const llvm::json::Object *generation,
                                                         llvm::StringRef where);

/// From GGUF key-value pairs.
llvm::Expected<runtime::TokenizerData> tokenizerFromGguf(const llvm::json::Object &metadata,
                                                         llvm::StringRef where);

/// Fills in normalizer and pre-tokenizer for a GGUF `tokenizer.ggml.pre` name; an error that lists
/// the known names otherwise.
llvm::Error applyPreTokenizer(llvm::StringRef name, runtime::TokenizerData &data,
                              llvm::StringRef where);

/// GPT-2's expression, which the ByteLevel pre-tokenizer implies.
extern const char *const gpt2Pattern;

} // namespace quern::import

#endif // QUERN_IMPORT_TOKENIZER_H
