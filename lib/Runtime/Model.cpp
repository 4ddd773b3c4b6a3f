//===- Model.cpp - Engine, tokenizer and metadata together ----------------===//
//
// Loads what a payload carries; a damaged part is an error that names the file.
//
//===----------------------------------------------------------------------===//
#include "quern/Runtime/Model.h"

namespace quern::runtime {

Status Model::load(const EngineOptions &options) {
  if (Status s = Engine::create(options, engine); s.failed())
    return s;
  const Payload &payload = engine->payload();
  metadataText = std::string(payload.metadata());
  std::string error;
  if (!metadataText.empty() && !Json::parse(metadataText, metadata, error))
    return Status::error(QUERN_ERROR_FILE, payload.weightsFile() + ": metadata: " + error);
  auto blob = payload.section(TokenizerSection);
  if (!blob.empty()) {
    tokenizer = Tokenizer::load(blob.data(), blob.size(), error);
    if (!tokenizer)
      return Status::error(QUERN_ERROR_TOKENIZER, payload.weightsFile() + ": tokenizer: " + error);
  }
  return {};
}

Status Model::noTokenizer() const {
  return Status::error(QUERN_ERROR_TOKENIZER,
                       "this program was compiled from a model without a tokenizer");
}

Status Model::tokenize(std::string_view text, bool special, bool prefix,
                       std::vector<int32_t> &ids) const {
  if (!tokenizer)
    return noTokenizer();
  ids.clear();
  if (prefix)
    ids = tokenizer->prefix();
  std::string error;
  std::vector<int32_t> body = tokenizer->encode(text, special, &error);
  if (!error.empty())
    return Status::error(QUERN_ERROR_TOKENIZER, "cannot tokenize: " + error);
  ids.insert(ids.end(), body.begin(), body.end());
  return {};
}

} // namespace quern::runtime
