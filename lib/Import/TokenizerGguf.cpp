//===- TokenizerGguf.cpp - Tokenizers from GGUF metadata ------------------===//
//
// `tokenizer.ggml.*`: models gpt2 (byte-level BPE), llama (SentencePiece BPE by
// score) and t5 (unigram).
//
//===----------------------------------------------------------------------===//
#include "quern/Import/Tokenizer.h"
#include "quern/Runtime/Tokenizer.h"
#include "quern/Support/Json.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/FormatVariadic.h"
#include <cmath>

using namespace llvm;
using namespace quern::runtime;

namespace quern::import {

namespace {
class GgufReader {
public:
  GgufReader(const json::Object &metadata, StringRef where) : metadata(metadata), where(where) {}
  Expected<TokenizerData> read();

private:
  const json::Object &metadata;
  StringRef where;
  TokenizerData data;

  template <typename... Ts> Error error(const char *format, Ts &&...values) const {
    return createStringError(where.str() + ": " +
                             formatv(format, std::forward<Ts>(values)...).str());
  }
  static std::string key(StringRef name) { return ("tokenizer.ggml." + name).str(); }
  Error readTokens();
  Error readMerges();
  Error readId(StringRef name, int32_t &id);
  Error readByteBpe();
  Error readCharacters(bool unigram);
  void addStep(TokenizerStep::Kind kind, StringRef a, StringRef b = "");
  void findEnds();
};

Error GgufReader::readId(StringRef name, int32_t &id) {
  const json::Value *v = metadata.get(key(name));
  if (!v)
    return Error::success();
  std::optional<int64_t> n = integerOf(v);
  // Files that have no such token write all ones.
  if (n && (*n == -1 || *n == int64_t(UINT32_MAX)))
    return Error::success();
  if (!n || *n < 0 || size_t(*n) >= data.tokens.size())
    return error("{0} is outside the vocabulary of {1} tokens", key(name), data.tokens.size());
  id = static_cast<int32_t>(*n);
  return Error::success();
}

Error GgufReader::readTokens() {
  const json::Array *tokens = metadata.getArray(key("tokens"));
  if (!tokens || tokens->empty())
    return error("no vocabulary: {0} is missing or empty", key("tokens"));
  const json::Array *types = metadata.getArray(key("token_type"));
  const json::Array *scores = metadata.getArray(key("scores"));
  if (types && types->size() != tokens->size())
    return error("{0} has {1} entries for {2} tokens", key("token_type"), types->size(),
                 tokens->size());
  if (scores && scores->size() != tokens->size())
    return error("{0} has {1} entries for {2} tokens", key("scores"), scores->size(),
                 tokens->size());
  data.tokens.resize(tokens->size());
  for (size_t i = 0; i < tokens->size(); ++i) {
    Token &t = data.tokens[i];
    std::optional<StringRef> text = (*tokens)[i].getAsString();
    if (!text)
      return error("{0}[{1}] is not a string", key("tokens"), i);
    t.text = text->str();
    if (types) {
      std::optional<int64_t> type = integerOf((*types)[i]);
      if (!type || *type < 0 || *type > 6)
        return error("{0}[{1}] is no token type (1 to 6)", key("token_type"), i);
      t.type = *type == 0 ? TokenType::Normal : TokenType(*type);
    }
    if (scores) {
      std::optional<double> score = (*scores)[i].getAsNumber();
      if (!score || !std::isfinite(*score)) // no other file could hold it
        return error("{0}[{1}] is not a number", key("scores"), i);
      t.score = *score;
    }
    t.inModel = t.type == TokenType::Normal;
    if (t.type == TokenType::Control || t.type == TokenType::UserDefined ||
        t.type == TokenType::Unknown) {
      AddedToken a;
      a.id = static_cast<int32_t>(i);
      a.text = t.text;
      a.special = t.type != TokenType::UserDefined;
      data.added.push_back(a);
    }
  }
  return Error::success();
}

/// Ids that end a text or a turn: those named so, and those whose text is known to.
void GgufReader::findEnds() {
  static const StringSet<> names = {
      "<|eot_id|>", "<|im_end|>", "<|end|>",         "<end_of_turn>",         "<|endoftext|>",
      "<|eom_id|>", "<EOT>",      "<|end_of_text|>", "<｜end▁of▁sentence｜>", "<|return|>"};
  auto add = [&](int32_t id) {
    if (id >= 0 && !is_contained(data.ends, id))
      data.ends.push_back(id);
  };
  add(data.eos);
  for (StringRef name : {"eot_token_id", "eom_token_id"}) {
    int32_t id = -1;
    if (Error e = readId(name, id))
      consumeError(std::move(e));
    add(id);
  }
  for (const AddedToken &a : data.added)
    if (names.contains(a.text))
      add(a.id);
}

Error GgufReader::readMerges() {
  const json::Array *merges = metadata.getArray(key("merges"));
  if (!merges)
    return error("{0} is missing", key("merges"));
  StringMap<int32_t> ids;
  for (size_t i = 0; i < data.tokens.size(); ++i)
    if (data.tokens[i].inModel)
      ids[data.tokens[i].text] = static_cast<int32_t>(i);
  for (size_t i = 0; i < merges->size(); ++i) {
    std::optional<StringRef> text = (*merges)[i].getAsString();
    size_t blank = text ? text->find(' ', 1) : StringRef::npos;
    if (blank == StringRef::npos)
      return error("{0}[{1}] is not two tokens separated by a space", key("merges"), i);
    StringRef left = text->take_front(blank), right = text->drop_front(blank + 1);
    auto l = ids.find(left), r = ids.find(right), both = ids.find((left + right).str());
    if (l == ids.end() || r == ids.end() || both == ids.end())
      return error("{0}[{1}] '{2}' names a token that is not in the vocabulary", key("merges"), i,
                   *text);
    data.merges.push_back({l->second, r->second, both->second});
  }
  return Error::success();
}

Error GgufReader::readByteBpe() {
  data.kind = TokenizerKind::ByteBPE;
  if (Error e = readMerges())
    return e;
  std::string bytes;
  for (Token &t : data.tokens) {
    if (!t.inModel)
      continue;
    if (bytesOfPrintable(t.text, bytes))
      t.text = bytes;
    else
      t.inModel = false;
  }
  std::optional<StringRef> pre = metadata.getString(key("pre"));
  if (!pre)
    return error("{0} is missing: the file does not say how it cuts text into words", key("pre"));
  return applyPreTokenizer(*pre, data, where);
}

void GgufReader::addStep(TokenizerStep::Kind kind, StringRef a, StringRef b) {
  TokenizerStep s;
  s.kind = kind;
  s.a = a.str();
  s.b = b.str();
  data.normalizer.push_back(s);
}

/// SentencePiece: spaces are U+2581, unknown characters become byte tokens.
Error GgufReader::readCharacters(bool unigram) {
  data.kind = unigram ? TokenizerKind::Unigram : TokenizerKind::CharBPE;
  data.mergeByScore = !unigram;
  data.metaspace = data.byteFallback = data.fuseUnknown = true;
  if (!metadata.getArray(key("scores")))
    return error("{0} is missing", key("scores"));
  if (const json::Array *map = metadata.getArray(key("precompiled_charsmap")); map && !map->empty())
    return error("the normalizer {0} is not supported", key("precompiled_charsmap"));
  // Phi 3's own tokenizer drops white space after its marks of turns; GGUF has no key for that.
  if (!unigram && metadata.getString("general.architecture") == StringRef("phi3"))
    for (AddedToken &a : data.added)
      a.rstrip = a.text != "<unk>" && a.text != "<s>" && a.text != "<|endoftext|>";
  bool prefix = metadata.getBoolean(key("add_space_prefix")).value_or(true);
  data.stripFirstSpace = prefix;
  if (metadata.getBoolean(key("remove_extra_whitespaces")).value_or(false)) {
    addStep(TokenizerStep::StripLeft, "");
    addStep(TokenizerStep::StripRight, "");
    addStep(TokenizerStep::ReplaceRegex, " {2,}", " ");
  }
  if (prefix)
    addStep(TokenizerStep::Prepend, " ");
  addStep(TokenizerStep::Replace, " ", "\xE2\x96\x81");
  for (size_t i = 0; i < data.tokens.size(); ++i) {
    Token &t = data.tokens[i];
    if (t.type != TokenType::Byte)
      continue;
    StringRef text = t.text;
    unsigned value = 0;
    if (!text.consume_front("<0x") || !text.consume_back(">") || text.size() != 2 ||
        text.getAsInteger(16, value))
      return error("byte token {0} is '{1}', expected the form <0xAB>", i, t.text);
    t.text.assign(1, static_cast<char>(value));
  }
  return Error::success();
}

Expected<TokenizerData> GgufReader::read() {
  std::optional<StringRef> model = metadata.getString(key("model"));
  if (!model)
    return error("no tokenizer: {0} is missing", key("model"));
  if (*model != "gpt2" && *model != "llama" && *model != "t5")
    return error("tokenizer model '{0}' is not supported; known: gpt2, llama, t5", *model);
  if (Error e = readTokens())
    return std::move(e);
  bool sentencePiece = *model == "llama";
  for (auto [name, id] : {std::pair<StringRef, int32_t *>("bos_token_id", &data.bos),
                          {"eos_token_id", &data.eos},
                          {"unknown_token_id", &data.unknown},
                          {"padding_token_id", &data.padding}})
    if (Error e = readId(name, *id))
      return std::move(e);
  if (Error e = *model == "gpt2" ? readByteBpe() : readCharacters(*model == "t5"))
    return std::move(e);
  if (*model == "gpt2")
    data.unknown = -1; // byte-level vocabularies have every byte
  // SentencePiece files begin texts with BOS unless they say otherwise.
  bool addBos =
      metadata.getBoolean(key("add_bos_token")).value_or(sentencePiece || !data.prefix.empty());
  data.prefix.clear();
  if (addBos && data.bos >= 0)
    data.prefix = {data.bos};
  if (metadata.getBoolean(key("add_eos_token")).value_or(false) && data.eos >= 0)
    data.suffix = {data.eos};
  findEnds();
  return std::move(data);
}
} // namespace

Expected<TokenizerData> tokenizerFromGguf(const json::Object &metadata, StringRef where) {
  return GgufReader(metadata, where).read();
}

} // namespace quern::import
