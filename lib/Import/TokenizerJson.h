//===- TokenizerJson.h - Parts of reading tokenizer.json --------*- C++ -*-===//
//
// Private to lib/Import.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_IMPORT_TOKENIZERJSON_H
#define QUERN_LIB_IMPORT_TOKENIZERJSON_H

#include "quern/Runtime/TokenizerData.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"

namespace quern::import {

/// Reads `normalizer`, `pre_tokenizer` and `decoder` into `data`. `byteLevel`: the model works on
/// GPT-2's printable characters, that is, on bytes.
llvm::Error readTokenizerSteps(const llvm::json::Object &doc, llvm::StringRef where,
                               runtime::TokenizerData &data, bool &byteLevel);

} // namespace quern::import

#endif // QUERN_LIB_IMPORT_TOKENIZERJSON_H
