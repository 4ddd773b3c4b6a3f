// Fuzzes the tokenizer importers and encoding: a mostly well-formed tokenizer.json or GGUF
// vocabulary, then text of any bytes through what came out.
#include "Generator.h"
#include "quern/Import/Tokenizer.h"
#include "quern/Runtime/Tokenizer.h"

using namespace quern::import;
using namespace quern::runtime;
using quern::fuzz::Decisions;
namespace json = llvm::json;

namespace {
const char *const texts[] = {"a",      "b",       "ab",     "abc",    "\u0120", "\u0120a",
                             "\u2581", "\u2581a", "<unk>",  "<s>",    "<0x41>", "<0xFF>",
                             "<0xG1>", "é",       "\u00c3", "1",      "12",     "",
                             " ",      "\n",      "😀",      "e\u0301"};
const char *const patterns[] = {"\\p{L}+",
                                " ?[^\\s\\p{L}]+",
                                "\\s+(?!\\S)|\\s+",
                                "(?i:'s)|\\w+",
                                "[0-9]{1,3}",
                                "(a|aa)+$",
                                "\\p{N}",
                                "(",
                                "[a",
                                "[[a]b]",
                                "a&&b",
                                "\\K",
                                "(?=a)",
                                "^",
                                "[^\\S]",
                                "\\p{Nope}",
                                "(*UTF)a",
                                "\\C",
                                "(?<=a)b",
                                "\\u00e9",
                                "(a*)*b",
                                "\\h\\d\\W"};

std::string someText(Decisions &d) {
  return d.rarely(6) ? json::fixUTF8(d.text(5)) : std::string(d.pick(texts));
}

json::Object step(Decisions &d, bool normalizer, unsigned depth = 0) {
  static const char *const normalizers[] = {"NFC",       "NFD",      "NFKC",         "NFKD",
                                            "Lowercase", "Strip",    "StripAccents", "Prepend",
                                            "Replace",   "Sequence", "Nope"};
  static const char *const pre[] = {
      "ByteLevel",          "Split",     "Digits",   "Punctuation", "Whitespace", "WhitespaceSplit",
      "CharDelimiterSplit", "Metaspace", "Sequence", "Nope"};
  static const char *const behaviors[] = {"Removed",        "Isolated",   "MergedWithPrevious",
                                          "MergedWithNext", "Contiguous", "Nope"};
  static const char *const schemes[] = {"always", "first", "never", "nope"};
  json::Object o;
  std::string type = normalizer ? d.pick(normalizers) : d.pick(pre);
  o["type"] = type;
  if (type == "Sequence") {
    json::Array list;
    for (unsigned n = d.below(4); n > 0 && depth < 12; --n)
      list.push_back(step(d, normalizer, depth + 1));
    o[normalizer ? "normalizers" : "pretokenizers"] = std::move(list);
  } else if (type == "Split" || type == "Replace") {
    bool regex = d.below(3) != 0;
    o["pattern"] = json::Object{
        {regex ? "Regex" : "String", regex ? std::string(d.pick(patterns)) : someText(d)}};
    o["behavior"] = d.pick(behaviors);
    o["invert"] = d.below(4) == 0;
    o["content"] = someText(d);
  } else if (type == "Metaspace") {
    o["replacement"] = "\u2581";
    o["prepend_scheme"] = d.pick(schemes);
    o["split"] = d.below(2) != 0;
  } else {
    o["prepend"] = o["delimiter"] = someText(d);
    o["individual_digits"] = o["use_regex"] = o["add_prefix_space"] = o["strip_left"] =
        d.below(2) != 0;
    if (d.below(2))
      o["behavior"] = d.pick(behaviors);
  }
  return o;
}

/// Mostly an id that exists.
json::Value number(Decisions &d) {
  static const double odd[] = {-1, 0.5, 1e19, -1e300, 9223372036854775808.0};
  if (d.rarely(16))
    return odd[d.below(5)];
  return int64_t(d.below(12));
}

json::Object decoder(Decisions &d, unsigned depth = 0) {
  static const char *const types[] = {"ByteLevel", "Fuse",  "ByteFallback", "Metaspace",
                                      "Replace",   "Strip", "Sequence",     "Nope"};
  static const char *const schemes[] = {"always", "first", "never"};
  std::string type = d.pick(types);
  json::Object o{{"type", type}};
  if (type == "Sequence" && depth < 12) {
    json::Array list;
    for (unsigned n = d.below(4); n > 0; --n)
      list.push_back(decoder(d, depth + 1));
    o["decoders"] = std::move(list);
  } else if (type == "Metaspace") {
    o["prepend_scheme"] = d.pick(schemes);
  } else if (type == "Replace") {
    o["pattern"] = json::Object{{"String", d.rarely(4) ? someText(d) : "\u2581"}};
    o["content"] = " ";
  } else if (type == "Strip") {
    o["content"] = " ";
    o["start"] = number(d);
    o["stop"] = 0;
  }
  return o;
}

json::Object tokenizerJson(Decisions &d) {
  json::Object doc, model;
  bool unigram = d.below(3) == 0;
  model["type"] = unigram ? "Unigram" : d.rarely(20) ? "WordPiece" : "BPE";
  unsigned count = d.below(40);
  if (unigram) {
    json::Array vocab;
    for (unsigned i = 0; i < count; ++i)
      vocab.push_back(json::Array{someText(d), -double(d.byte()) / 8});
    model["vocab"] = std::move(vocab);
    model["unk_id"] = int64_t(d.count(4));
  } else {
    json::Object vocab;
    int64_t id = 0;
    for (unsigned i = 0; i < count; ++i)
      if (vocab.try_emplace(someText(d), d.rarely(30) ? int64_t(d.count(50)) : id).second)
        ++id;
    json::Array merges;
    for (unsigned n = d.below(12); n > 0; --n) {
      std::string a = someText(d), b = someText(d);
      if (d.below(2))
        merges.push_back(json::Array{a, b});
      else
        merges.push_back(a + " " + b);
      if (!d.rarely(5))
        for (const std::string &t : {a, b, a + b})
          if (vocab.try_emplace(t, id).second)
            ++id;
    }
    model["vocab"] = std::move(vocab);
    model["merges"] = std::move(merges);
    model["unk_token"] = "<unk>";
    model["ignore_merges"] = d.below(4) == 0;
  }
  model["byte_fallback"] = d.below(2) != 0;
  model["fuse_unk"] = d.below(2) != 0;
  doc["model"] = std::move(model);
  json::Array added;
  for (unsigned n = d.below(4); n > 0; --n)
    added.push_back(json::Object{{"id", int64_t(d.count(60))},
                                 {"content", someText(d)},
                                 {"special", d.below(2) != 0},
                                 {"normalized", d.below(2) != 0},
                                 {"single_word", d.below(3) == 0},
                                 {"lstrip", d.below(3) == 0},
                                 {"rstrip", d.below(3) == 0}});
  doc["added_tokens"] = std::move(added);
  if (d.below(2))
    doc["normalizer"] = step(d, true);
  if (d.below(3))
    doc["pre_tokenizer"] = step(d, false);
  if (d.below(3) == 0)
    doc["decoder"] = decoder(d);
  if (d.below(8) == 7) {
    static const char *const types[] = {"BertProcessing", "RobertaProcessing", "ByteLevel", "Nope"};
    json::Object post{{"type", d.pick(types)},
                      {"cls", json::Array{"<s>", number(d)}},
                      {"sep", json::Array{"</s>", number(d)}}};
    if (d.below(2))
      post = json::Object{{"type", "Sequence"}, {"processors", json::Array{std::move(post)}}};
    doc["post_processor"] = std::move(post);
  } else if (d.below(4) == 0)
    doc["post_processor"] = json::Object{
        {"type", "TemplateProcessing"},
        {"single", json::Array{json::Object{{"SpecialToken", json::Object{{"id", "<s>"}}}},
                               json::Object{{"Sequence", json::Object{{"id", "A"}}}}}},
        {"special_tokens",
         json::Object{{"<s>", json::Object{{"ids", json::Array{int64_t(d.count(20))}}}}}}};
  return doc;
}

/// With the documents beside it, some of the time.
llvm::Expected<TokenizerData> fromJson(Decisions &d) {
  json::Object document = tokenizerJson(d), config, generation;
  bool beside = d.below(3) == 0;
  if (beside) {
    config["bos_token"] = someText(d);
    config["eos_token"] = json::Object{{"content", someText(d)}};
    config["add_bos_token"] = d.below(2) != 0;
    generation["bos_token_id"] = number(d);
    generation["eos_token_id"] = json::Array{number(d), number(d)};
    if (d.below(2))
      generation["eos_token_id"] = number(d);
  }
  return tokenizerFromJson(document, beside ? &config : nullptr, beside ? &generation : nullptr,
                           "fuzz");
}

json::Object gguf(Decisions &d) {
  static const char *const kinds[] = {"gpt2", "llama", "t5", "bert"};
  static const char *const names[] = {"gpt-2", "llama-bpe",      "qwen2",        "smollm", "falcon",
                                      "mpt",   "deepseek-coder", "deepseek-llm", "tekken", "nope"};
  json::Object m;
  auto key = [](const char *name) { return std::string("tokenizer.ggml.") + name; };
  m[key("model")] = d.pick(kinds);
  m[key("pre")] = d.pick(names);
  json::Array tokens, types, scores, merges;
  for (unsigned n = d.below(40); n > 0; --n) {
    tokens.push_back(someText(d));
    types.push_back(int64_t(d.rarely(30) ? d.count(8) : 1 + d.below(6)));
    scores.push_back(-double(d.byte()));
  }
  for (unsigned n = d.below(8); n > 0; --n) {
    std::string a = someText(d), b = someText(d);
    merges.push_back(a + " " + b);
    if (!d.rarely(5))
      for (const std::string &t : {a, b, a + b}) {
        tokens.push_back(t);
        types.push_back(1);
        scores.push_back(-1.0);
      }
  }
  m[key("tokens")] = std::move(tokens);
  if (!d.rarely(10))
    m[key("token_type")] = std::move(types);
  if (!d.rarely(10))
    m[key("scores")] = std::move(scores);
  m[key("merges")] = std::move(merges);
  m[key("bos_token_id")] = int64_t(d.count(20));
  m[key("eos_token_id")] = int64_t(d.count(20));
  m[key("add_bos_token")] = d.below(2) != 0;
  m[key("add_space_prefix")] = d.below(2) != 0;
  m[key("remove_extra_whitespaces")] = d.below(3) == 0;
  return m;
}

quern::fuzz::Tally tally("tokenizer");
} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  Decisions d(bytes, size);
  ++tally.runs;
  llvm::Expected<TokenizerData> data =
      d.below(2) ? tokenizerFromGguf(gguf(d), "fuzz") : fromJson(d);
  if (!data) {
    llvm::consumeError(data.takeError());
    return 0;
  }
  ++tally.header;
  std::string error;
  std::vector<uint8_t> blob = data->serialize(error);
  if (!error.empty())
    return 0;
  auto tokenizer = Tokenizer::load(blob.data(), blob.size(), error);
  if (!tokenizer)
    abort(); // what was written must be readable
  ++tally.accepted;
  std::string text = d.text(200) + "ab <unk>é \u2581a1\n";
  bool special = d.below(2);
  std::vector<int32_t> ids = tokenizer->encode(text, !special);
  StreamDecoder stream(*tokenizer, /*atStart=*/true, special);
  std::string streamed;
  for (int32_t id : ids) {
    if (id < 0 || size_t(id) >= tokenizer->size())
      abort();
    tokenizer->decode(id, true);
    tokenizer->isEnd(id);
    streamed += stream.push(id);
  }
  streamed += stream.flush();
  if (streamed != tokenizer->decode(ids, special))
    abort();
  for (const std::vector<int32_t> &list : {tokenizer->prefix(), tokenizer->suffix()})
    for (int32_t id : list)
      if (id < 0 || size_t(id) >= tokenizer->size())
        abort();
  if (int32_t id = tokenizer->find("ab"); id >= 0 && size_t(id) >= tokenizer->size())
    abort();
  return 0;
}
