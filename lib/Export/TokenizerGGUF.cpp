//===- TokenizerGGUF.cpp - Tokenizers as GGUF keys ------------------------===//
//
// tokenizer.json -> GGUF keys. GGUF only names its pre-tokenizers: the name is found by comparing
// what it stands for with what the file describes.
//
//===----------------------------------------------------------------------===//
#include "Plan.h"
#include "quern/Import/Tokenizer.h"
#include "quern/Support/Json.h"
#include "llvm/ADT/StringMap.h"

using namespace llvm;
using namespace quern::import;
using quern::runtime::TokenizerData;
using quern::runtime::TokenizerKind;
using quern::runtime::TokenizerStep;
using quern::runtime::TokenType;

namespace quern::exporter {
namespace {

bool sameSteps(const std::vector<TokenizerStep> &a, const std::vector<TokenizerStep> &b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const TokenizerStep &x, const TokenizerStep &y) {
                      return x.kind == y.kind && x.behavior == y.behavior && x.invert == y.invert &&
                             x.a == y.a && x.b == y.b;
                    });
}

/// The GGUF name of the pre-tokenizer that does what `data` does.
Expected<std::string> preTokenizerName(const ModelFile &model, const TokenizerData &data) {
  for (StringRef name : {"gpt-2", "llama-bpe", "qwen2", "smollm", "mpt", "falcon", "deepseek-coder",
                         "deepseek-llm", "tekken"}) {
    TokenizerData known = data;
    known.normalizer.clear();
    known.preTokenizer.clear();
    if (Error e = applyPreTokenizer(name, known, model.path)) {
      consumeError(std::move(e));
      continue;
    }
    if (sameSteps(known.normalizer, data.normalizer) &&
        sameSteps(known.preTokenizer, data.preTokenizer))
      return name.str();
  }
  return createStringError(
      model.path + ": tokenizer.json: GGUF has no name for its normalizer and pre-tokenizer");
}

struct Vocabulary {
  json::Array tokens, types, scores, merges;
};

/// The strings of tokenizer.json itself, where byte-level tokens are spelled as GGUF spells them.
Error readVocabulary(const ModelFile &model, const json::Object &root, const TokenizerData &data,
                     Vocabulary &out) {
  auto error = [&](const Twine &message) {
    return createStringError(model.path + ": tokenizer.json: " + message);
  };
  const json::Object *tokenizer = root.getObject("model");
  if (!tokenizer)
    return error("model is missing");
  bool unigram = data.kind == TokenizerKind::Unigram;
  size_t count = data.tokens.size();
  std::vector<std::string> texts(count);
  std::vector<bool> present(count);
  auto set = [&](StringRef text, std::optional<int64_t> id) -> Error {
    if (!id || *id < 0 || *id >= int64_t(count))
      return error("the id of '" + text + "' is out of range");
    texts[*id] = text.str();
    present[*id] = true;
    return Error::success();
  };
  if (const json::Object *vocab = tokenizer->getObject("vocab"))
    for (const auto &entry : *vocab)
      if (Error e = set(StringRef(entry.first), integerOf(entry.second)))
        return e;
  if (const json::Array *vocab = tokenizer->getArray("vocab")) // unigram: in order, with scores
    for (size_t i = 0; i < vocab->size(); ++i)
      if (const json::Array *pair = (*vocab)[i].getAsArray(); pair && !pair->empty())
        if (Error e = set(pair->front().getAsString().value_or(""), int64_t(i)))
          return e;
  if (const json::Array *added = root.getArray("added_tokens"))
    for (const json::Value &item : *added)
      if (const json::Object *token = item.getAsObject())
        if (Error e = set(token->getString("content").value_or(""), integerOf(*token, "id")))
          return e;
  StringMap<size_t> rank; // of the first merge that makes a token
  if (const json::Array *merges = tokenizer->getArray("merges"))
    for (const json::Value &item : *merges) {
      std::string text;
      if (const json::Array *pair = item.getAsArray(); pair && pair->size() == 2)
        text = ((*pair)[0].getAsString().value_or("") + " " + (*pair)[1].getAsString().value_or(""))
                   .str();
      else
        text = item.getAsString().value_or("").str();
      auto [left, right] = StringRef(text).split(' ');
      rank.try_emplace((left + right).str(), out.merges.size());
      out.merges.push_back(std::move(text));
    }
  for (size_t i = 0; i < count; ++i) {
    TokenType type = present[i] ? data.tokens[i].type : TokenType::Unused;
    out.tokens.push_back(present[i] ? texts[i] : "[PAD" + std::to_string(i) + "]");
    out.types.push_back(int64_t(type));
    // SentencePiece merges by score; ranks in reverse order say the same.
    auto found = rank.find(texts[i]);
    out.scores.push_back(unigram               ? data.tokens[i].score
                         : found != rank.end() ? -double(found->second)
                                               : -1e6);
  }
  return Error::success();
}

/// GGUF has two flags for what a unigram model does to a text beforehand: found by comparing what
/// they stand for with what the file describes.
Error addUnigramFlags(const ModelFile &model, const TokenizerData &data, Plan &plan) {
  for (bool prefix : {false, true})
    for (bool strip : {false, true}) {
      json::Object flags{{"tokenizer.ggml.model", "t5"},
                         {"tokenizer.ggml.tokens", json::Array{"x"}},
                         {"tokenizer.ggml.scores", json::Array{0}},
                         {"tokenizer.ggml.add_space_prefix", prefix},
                         {"tokenizer.ggml.remove_extra_whitespaces", strip}};
      Expected<TokenizerData> known = tokenizerFromGguf(flags, model.path);
      if (!known)
        return known.takeError();
      if (!sameSteps(known->normalizer, data.normalizer) ||
          !sameSteps(known->preTokenizer, data.preTokenizer))
        continue;
      for (auto [name, value] :
           {std::pair("add_space_prefix", prefix), std::pair("remove_extra_whitespaces", strip)})
        plan.keys.push_back({std::string("tokenizer.ggml.") + name, MetadataType::Bool,
                             MetadataType::String, value});
      return Error::success();
    }
  return createStringError(model.path + ": tokenizer.json: GGUF has no keys for the normalizer and "
                                        "pre-tokenizer of this unigram vocabulary");
}

std::optional<std::string> chatTemplate(const ModelFile &model) {
  if (std::optional<StringRef> text = model.metadata.getString("chat_template"))
    return text->str();
  if (const json::Object *config = model.metadata.getObject("tokenizer_config"))
    if (std::optional<StringRef> text = config->getString("chat_template"))
      return text->str();
  return std::nullopt;
}

} // namespace

Error addGGUFTokenizer(const ModelFile &model, Plan &plan) {
  const json::Object *root = model.metadata.getObject("tokenizer");
  if (!root)
    return Error::success();
  Expected<TokenizerData> data = readTokenizer(model);
  if (!data)
    return data.takeError();
  auto add = [&](StringRef key, MetadataType type, json::Value value,
                 MetadataType element = MetadataType::String) {
    plan.keys.push_back({("tokenizer." + key).str(), type, element, std::move(value)});
  };
  Vocabulary vocabulary;
  if (Error e = readVocabulary(model, *root, *data, vocabulary))
    return e;
  if (data->kind == TokenizerKind::ByteBPE) {
    Expected<std::string> pre = preTokenizerName(model, *data);
    if (!pre)
      return pre.takeError();
    add("ggml.model", MetadataType::String, "gpt2");
    add("ggml.pre", MetadataType::String, *pre);
  } else if (data->kind == TokenizerKind::CharBPE) {
    add("ggml.model", MetadataType::String, "llama");
    add("ggml.pre", MetadataType::String, "default");
    add("ggml.scores", MetadataType::Array, std::move(vocabulary.scores), MetadataType::Float32);
    bool prefix =
        any_of(data->normalizer,
               [](const TokenizerStep &s) { return s.kind == TokenizerStep::Prepend; }) ||
        any_of(data->preTokenizer, [](const TokenizerStep &s) {
          return s.kind == TokenizerStep::PrependPiece || s.kind == TokenizerStep::PrependFirst;
        });
    add("ggml.add_space_prefix", MetadataType::Bool, prefix);
  } else {
    add("ggml.model", MetadataType::String, "t5");
    add("ggml.scores", MetadataType::Array, std::move(vocabulary.scores), MetadataType::Float32);
    if (Error e = addUnigramFlags(model, *data, plan))
      return e;
  }
  add("ggml.tokens", MetadataType::Array, std::move(vocabulary.tokens));
  add("ggml.token_type", MetadataType::Array, std::move(vocabulary.types), MetadataType::Int32);
  if (data->kind == TokenizerKind::ByteBPE)
    add("ggml.merges", MetadataType::Array, std::move(vocabulary.merges));
  for (auto [key, id] : {std::pair("bos", data->bos),
                         {"eos", data->eos},
                         {"unknown", data->unknown},
                         {"padding", data->padding}})
    if (id >= 0)
      add("ggml." + std::string(key) + "_token_id", MetadataType::UInt32, int64_t(id));
  add("ggml.add_bos_token", MetadataType::Bool,
      data->bos >= 0 && is_contained(data->prefix, data->bos));
  add("ggml.add_eos_token", MetadataType::Bool,
      data->eos >= 0 && is_contained(data->suffix, data->eos));
  if (std::optional<std::string> text = chatTemplate(model))
    add("chat_template", MetadataType::String, *text);
  return Error::success();
}

} // namespace quern::exporter
