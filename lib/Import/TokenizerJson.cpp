//===- TokenizerJson.cpp - Tokenizers from tokenizer.json -----------------===//
//
// The document's top level: added tokens, vocabulary and merges, special ids.
// Normalizers, pre-tokenizers and decoders are read in TokenizerJsonSteps.cpp.
//
//===----------------------------------------------------------------------===//
#include "TokenizerJson.h"
#include "quern/Import/Parsers.h"
#include "quern/Import/Tokenizer.h"
#include "quern/Runtime/Tokenizer.h"
#include "quern/Support/Json.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include <cmath>

using namespace llvm;
using namespace quern::runtime;

namespace quern::import {

namespace {
class JsonReader {
public:
  JsonReader(const json::Object &doc, const json::Object *config, const json::Object *generation,
             StringRef where)
      : doc(doc), config(config), generation(generation), where(where) {}
  Expected<TokenizerData> read();

private:
  const json::Object &doc, *config, *generation;
  StringRef where;
  TokenizerData data;
  StringMap<int32_t> ids; ///< of the model's vocabulary and the added tokens

  template <typename... Ts> Error error(const char *format, Ts &&...values) const {
    return createStringError(where.str() + ": " +
                             formatv(format, std::forward<Ts>(values)...).str());
  }
  Expected<int64_t> checkId(std::optional<int64_t> id, size_t entries, StringRef text) const;
  Error readAdded(size_t vocabularySize);
  Error readBpe(const json::Object &model);
  Error readUnigram(const json::Object &model);
  Error readMerges(const json::Object &model);
  Error readPostProcessor(const json::Object &post);
  void findSpecialIds();
  void place(int64_t id);
};

/// Ids may have holes, but not so many that a small file asks for much memory.
Expected<int64_t> JsonReader::checkId(std::optional<int64_t> id, size_t entries,
                                      StringRef text) const {
  if (!id || *id < 0 || *id > int64_t(2 * entries + 65536))
    return error("token '{0}' has an id outside 0 .. {1}", text, 2 * entries + 65536);
  return *id;
}

void JsonReader::place(int64_t id) {
  while (int64_t(data.tokens.size()) <= id) {
    data.tokens.emplace_back();
    data.tokens.back().type = TokenType::Unused;
    data.tokens.back().inModel = false;
  }
}

Error JsonReader::readAdded(size_t vocabularySize) {
  const json::Array *added = doc.getArray("added_tokens");
  if (!added)
    return Error::success();
  for (const json::Value &v : *added) {
    const json::Object *o = v.getAsObject();
    std::optional<StringRef> content = o ? o->getString("content") : std::nullopt;
    if (!content)
      return error("an entry of added_tokens has no content");
    Expected<int64_t> id = checkId(integerOf(*o, "id"), vocabularySize + added->size(), *content);
    if (!id)
      return id.takeError();
    AddedToken a;
    a.id = static_cast<int32_t>(*id);
    a.text = content->str();
    a.special = o->getBoolean("special").value_or(false);
    a.normalized = o->getBoolean("normalized").value_or(!a.special);
    a.singleWord = o->getBoolean("single_word").value_or(false);
    a.lstrip = o->getBoolean("lstrip").value_or(false);
    a.rstrip = o->getBoolean("rstrip").value_or(false);
    place(a.id);
    Token &t = data.tokens[a.id];
    t.type = a.special ? TokenType::Control : TokenType::UserDefined;
    t.text = a.text; // as written, not in a vocabulary's alphabet
    if (a.special)
      t.inModel = false;
    ids[a.text] = a.id;
    data.added.push_back(std::move(a));
  }
  return Error::success();
}

Error JsonReader::readMerges(const json::Object &model) {
  const json::Array *merges = model.getArray("merges");
  if (!merges)
    return error("model.merges is missing");
  for (size_t i = 0; i < merges->size(); ++i) {
    StringRef left, right;
    if (std::optional<StringRef> text = (*merges)[i].getAsString()) {
      std::tie(left, right) = text->split(' ');
    } else if (const json::Array *pair = (*merges)[i].getAsArray(); pair && pair->size() == 2) {
      left = (*pair)[0].getAsString().value_or("");
      right = (*pair)[1].getAsString().value_or("");
    }
    if (left.empty() || right.empty())
      return error("model.merges[{0}] is not two tokens", i);
    auto l = ids.find(left), r = ids.find(right), both = ids.find((left + right).str());
    if (l == ids.end() || r == ids.end() || both == ids.end())
      return error("model.merges[{0}] '{1}' + '{2}' names a token that is not in the vocabulary", i,
                   left, right);
    data.merges.push_back({l->second, r->second, both->second});
  }
  return Error::success();
}

Error JsonReader::readBpe(const json::Object &model) {
  for (StringRef name : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (!model.getString(name).value_or("").empty())
      return error("model.{0} is not supported", name);
  if (model.getNumber("dropout").value_or(0) != 0)
    return error("model.dropout is not supported: encoding would be random");
  const json::Object *vocab = model.getObject("vocab");
  if (!vocab || vocab->empty())
    return error("model.vocab is missing or empty");
  for (const auto &[text, value] : *vocab) {
    Expected<int64_t> id = checkId(integerOf(value), vocab->size(), text);
    if (!id)
      return id.takeError();
    place(*id);
    Token &t = data.tokens[*id];
    if (t.inModel)
      return error("tokens '{0}' and '{1}' have the same id {2}", t.text, StringRef(text), *id);
    t.text = StringRef(text).str();
    t.type = TokenType::Normal;
    t.inModel = true;
    ids[t.text] = static_cast<int32_t>(*id);
  }
  data.byteFallback = model.getBoolean("byte_fallback").value_or(false);
  data.fuseUnknown = model.getBoolean("fuse_unk").value_or(false);
  data.ignoreMerges = model.getBoolean("ignore_merges").value_or(false);
  if (std::optional<StringRef> unknown = model.getString("unk_token"))
    if (auto it = ids.find(*unknown); it != ids.end())
      data.unknown = it->second;
  return readMerges(model);
}

Error JsonReader::readUnigram(const json::Object &model) {
  const json::Array *vocab = model.getArray("vocab");
  if (!vocab || vocab->empty())
    return error("model.vocab is missing or empty");
  data.tokens.resize(vocab->size());
  for (size_t i = 0; i < vocab->size(); ++i) {
    const json::Array *entry = (*vocab)[i].getAsArray();
    std::optional<StringRef> text =
        entry && entry->size() == 2 ? (*entry)[0].getAsString() : std::nullopt;
    std::optional<double> score = text ? (*entry)[1].getAsNumber() : std::nullopt;
    if (!score || !std::isfinite(*score))
      return error("model.vocab[{0}] is not a token and its score", i);
    data.tokens[i].text = text->str();
    data.tokens[i].score = *score;
    ids[*text] = static_cast<int32_t>(i);
  }
  data.byteFallback = model.getBoolean("byte_fallback").value_or(false);
  data.fuseUnknown = true;
  if (std::optional<int64_t> unknown = integerOf(model, "unk_id")) {
    if (*unknown < 0 || size_t(*unknown) >= vocab->size())
      return error("model.unk_id {0} is outside the vocabulary of {1} tokens", *unknown,
                   vocab->size());
    data.unknown = static_cast<int32_t>(*unknown);
  }
  return Error::success();
}

/// The ids a text is surrounded with; pairs of texts do not concern us.
Error JsonReader::readPostProcessor(const json::Object &post) {
  StringRef type = post.getString("type").value_or("");
  if (type == "Sequence") {
    if (const json::Array *all = post.getArray("processors"))
      for (const json::Value &v : *all)
        if (const json::Object *o = v.getAsObject())
          if (v.getAsObject()->getString("type") != "Sequence")
            if (Error e = readPostProcessor(*o))
              return e;
    return Error::success();
  }
  if (type == "ByteLevel")
    return Error::success();
  auto checked = [&](int64_t id) -> Expected<int32_t> {
    if (id < 0 || size_t(id) >= data.tokens.size())
      return error("post_processor: id {0} is outside the vocabulary", id);
    return static_cast<int32_t>(id);
  };
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    for (auto [name, list] : {std::pair<StringRef, std::vector<int32_t> *>("cls", &data.prefix),
                              {"sep", &data.suffix}}) {
      const json::Array *pair = post.getArray(name);
      std::optional<int64_t> id = pair && pair->size() == 2 ? integerOf((*pair)[1]) : std::nullopt;
      Expected<int32_t> ok = checked(id.value_or(-1));
      if (!ok)
        return ok.takeError();
      list->push_back(*ok);
    }
    return Error::success();
  }
  if (type != "TemplateProcessing")
    return error("post_processor '{0}' is not supported", type);
  const json::Array *single = post.getArray("single");
  const json::Object *special = post.getObject("special_tokens");
  bool before = true;
  for (size_t i = 0; single && i < single->size(); ++i) {
    const json::Object *item = (*single)[i].getAsObject();
    if (item && item->getObject("Sequence")) {
      before = false;
      continue;
    }
    const json::Object *token = item ? item->getObject("SpecialToken") : nullptr;
    const json::Object *entry =
        token && special ? special->getObject(token->getString("id").value_or("")) : nullptr;
    const json::Array *list = entry ? entry->getArray("ids") : nullptr;
    if (!list)
      return error("post_processor.single[{0}] is neither a sequence nor a special token", i);
    for (const json::Value &v : *list) {
      Expected<int32_t> id = checked(integerOf(v).value_or(-1));
      if (!id)
        return id.takeError();
      (before ? data.prefix : data.suffix).push_back(*id);
    }
  }
  return Error::success();
}

/// BOS, EOS and all that ends a turn, from the documents beside tokenizer.json.
void JsonReader::findSpecialIds() {
  auto named = [&](StringRef name) -> int32_t {
    const json::Value *v = config ? config->get(name) : nullptr;
    if (!v)
      return -1;
    std::optional<StringRef> text = v->getAsString();
    if (const json::Object *o = v->getAsObject())
      text = o->getString("content");
    auto it = text ? ids.find(*text) : ids.end();
    return it == ids.end() ? -1 : it->second;
  };
  auto end = [&](int64_t id) {
    if (id >= 0 && size_t(id) < data.tokens.size() && !is_contained(data.ends, id))
      data.ends.push_back(static_cast<int32_t>(id));
  };
  data.bos = named("bos_token");
  data.eos = named("eos_token");
  data.padding = named("pad_token");
  const json::Value *v = generation ? generation->get("eos_token_id") : nullptr;
  if (v) {
    if (std::optional<int64_t> id = integerOf(v))
      end(*id);
    if (const json::Array *list = v->getAsArray())
      for (const json::Value &each : *list)
        end(integerOf(each).value_or(-1));
  }
  end(data.eos);
  if (data.eos < 0 && !data.ends.empty())
    data.eos = data.ends.front();
  if (generation && data.bos < 0)
    if (std::optional<int64_t> id = integerOf(*generation, "bos_token_id"))
      if (*id >= 0 && size_t(*id) < data.tokens.size())
        data.bos = static_cast<int32_t>(*id);
  if (std::optional<bool> add = config ? config->getBoolean("add_bos_token") : std::nullopt) {
    if (!*add)
      llvm::erase(data.prefix, data.bos);
    else if (data.bos >= 0 && !is_contained(data.prefix, data.bos))
      data.prefix.insert(data.prefix.begin(), data.bos);
  }
}

Expected<TokenizerData> JsonReader::read() {
  const json::Object *model = doc.getObject("model");
  if (!model)
    return error("model is missing");
  StringRef type = model->getString("type").value_or("");
  if (type.empty()) // files of before the field existed
    type = model->getArray("merges") ? "BPE" : model->getArray("vocab") ? "Unigram" : "";
  if (type != "BPE" && type != "Unigram")
    return error("tokenizer model '{0}' is not supported; known: BPE, Unigram", type);
  if (Error e = type == "BPE" ? readBpe(*model) : readUnigram(*model))
    return std::move(e);

  bool byteLevel = false;
  if (Error e = readTokenizerSteps(doc, where, data, byteLevel))
    return std::move(e);
  data.kind = type == "Unigram" ? TokenizerKind::Unigram
              : byteLevel       ? TokenizerKind::ByteBPE
                                : TokenizerKind::CharBPE;
  if (type == "Unigram" && byteLevel)
    return error("a unigram model over bytes is not supported");
  std::string bytes;
  for (Token &t : data.tokens) {
    if (!t.inModel)
      continue;
    if (byteLevel) {
      if (bytesOfPrintable(t.text, bytes))
        t.text = bytes;
      else
        t.inModel = false;
    } else if (data.byteFallback) {
      StringRef text = t.text;
      unsigned value;
      if (text.size() == 6 && text.consume_front("<0x") && text.consume_back(">") &&
          !text.getAsInteger(16, value)) {
        t.text.assign(1, static_cast<char>(value));
        t.type = TokenType::Byte;
        t.inModel = false;
      }
    }
  }
  if (data.unknown >= 0)
    data.tokens[data.unknown].type = TokenType::Unknown;
  if (Error e = readAdded(data.tokens.size()))
    return std::move(e);
  if (data.unknown >= 0)
    data.tokens[data.unknown].inModel = false;
  if (const json::Object *post = doc.getObject("post_processor"))
    if (Error e = readPostProcessor(*post))
      return std::move(e);
  findSpecialIds();
  return std::move(data);
}

Expected<json::Value> parseFile(const Twine &path) {
  ErrorOr<std::unique_ptr<MemoryBuffer>> buffer = MemoryBuffer::getFile(path);
  if (!buffer)
    return createStringError(path.str() + ": " + buffer.getError().message());
  return parseJson((*buffer)->getBuffer(), path.str());
}
} // namespace

Expected<TokenizerData> tokenizerFromJson(const json::Object &tokenizer, const json::Object *config,
                                          const json::Object *generation, StringRef where) {
  return JsonReader(tokenizer, config, generation, where).read();
}

Expected<ModelFile> openTokenizer(StringRef path) {
  SmallString<256> file(path);
  if (sys::path::filename(path) != "tokenizer.json") {
    sys::path::append(file, "tokenizer.json");
    if (!sys::fs::exists(file))
      return open(path);
  }
  Expected<json::Value> doc = parseFile(file);
  if (!doc)
    return doc.takeError();
  if (!doc->getAsObject())
    return createStringError(file.str().str() + ": expected a JSON object");
  ModelFile model;
  model.container = Container::HuggingFace;
  model.path = path.str();
  model.metadata["tokenizer"] = std::move(*doc);
  // The documents beside it are optional.
  for (StringRef name : {"tokenizer_config", "generation_config"}) {
    SmallString<256> other(sys::path::parent_path(file));
    sys::path::append(other, name + ".json");
    if (!sys::fs::exists(other))
      continue;
    Expected<json::Value> v = parseFile(other);
    if (!v)
      return v.takeError();
    model.metadata[name] = std::move(*v);
  }
  SmallString<256> chat(sys::path::parent_path(file));
  sys::path::append(chat, "chat_template.jinja");
  if (auto text = MemoryBuffer::getFile(chat))
    model.metadata["chat_template"] = json::fixUTF8((*text)->getBuffer());
  return std::move(model);
}

Expected<TokenizerData> readTokenizer(const ModelFile &model) {
  if (model.container == Container::GGUF)
    return tokenizerFromGguf(model.metadata, model.path);
  const json::Object *tokenizer = model.metadata.getObject("tokenizer");
  if (!tokenizer)
    return createStringError(model.path + ": no tokenizer: tokenizer.json is missing");
  return tokenizerFromJson(*tokenizer, model.metadata.getObject("tokenizer_config"),
                           model.metadata.getObject("generation_config"),
                           model.path + ": tokenizer.json");
}

} // namespace quern::import
