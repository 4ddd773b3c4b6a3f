//===- TokenizerDocuments.cpp - Tokenizers as tokenizer.json --------------===//
//
// GGUF keys -> tokenizer.json and its neighbours; TokenizerGGUF.cpp is the way back.
//
//===----------------------------------------------------------------------===//
#include "Plan.h"
#include "quern/Import/Tokenizer.h"
#include "quern/Support/Json.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

using namespace llvm;
using namespace quern::import;
using quern::runtime::TokenizerData;
using quern::runtime::TokenizerKind;
using quern::runtime::TokenizerStep;
using quern::runtime::TokenType;

namespace quern::exporter {
namespace {

json::Value splitStep(const TokenizerStep &step) {
  static const char *const behaviors[] = {"Removed", "Isolated", "MergedWithPrevious",
                                          "MergedWithNext", "Contiguous"};
  const char *kind = step.kind == TokenizerStep::Split ? "Regex" : "String";
  return json::Object{{"type", "Split"},
                      {"pattern", json::Object{{kind, step.a}}},
                      {"behavior", behaviors[step.behavior]},
                      {"invert", step.invert}};
}

json::Value sequence(StringRef list, json::Array items) {
  if (items.empty())
    return nullptr;
  if (items.size() == 1)
    return std::move(items[0]);
  return json::Object{{"type", "Sequence"}, {list, std::move(items)}};
}

/// Steps in the words of tokenizer.json; false for one it has no word for.
bool describe(const TokenizerData &data, json::Object &root) {
  json::Array normalizers, pieces;
  for (const TokenizerStep &step : data.normalizer) {
    static const std::pair<TokenizerStep::Kind, const char *> plain[] = {
        {TokenizerStep::NFC, "NFC"},
        {TokenizerStep::NFD, "NFD"},
        {TokenizerStep::NFKC, "NFKC"},
        {TokenizerStep::NFKD, "NFKD"},
        {TokenizerStep::Lowercase, "Lowercase"}};
    auto found = find_if(plain, [&](auto &entry) { return entry.first == step.kind; });
    if (found != std::end(plain))
      normalizers.push_back(json::Object{{"type", found->second}});
    else if (step.kind == TokenizerStep::Prepend)
      normalizers.push_back(json::Object{{"type", "Prepend"}, {"prepend", step.a}});
    else if (step.kind == TokenizerStep::Replace)
      normalizers.push_back(json::Object{
          {"type", "Replace"}, {"pattern", json::Object{{"String", step.a}}}, {"content", step.b}});
    else if (step.kind == TokenizerStep::ReplaceRegex)
      normalizers.push_back(json::Object{
          {"type", "Replace"}, {"pattern", json::Object{{"Regex", step.a}}}, {"content", step.b}});
    else if (step.kind == TokenizerStep::StripLeft || step.kind == TokenizerStep::StripRight)
      normalizers.push_back(json::Object{{"type", "Strip"},
                                         {"strip_left", step.kind == TokenizerStep::StripLeft},
                                         {"strip_right", step.kind == TokenizerStep::StripRight}});
    else
      return false;
  }
  bool mapped = false;
  for (const TokenizerStep &step : data.preTokenizer) {
    if (step.kind == TokenizerStep::Split || step.kind == TokenizerStep::SplitLiteral)
      pieces.push_back(splitStep(step));
    else if (step.kind == TokenizerStep::ByteMap) {
      pieces.push_back(json::Object{{"type", "ByteLevel"},
                                    {"add_prefix_space", false},
                                    {"trim_offsets", true},
                                    {"use_regex", false}});
      mapped = true;
    } else
      return false;
  }
  if (data.kind == TokenizerKind::ByteBPE && !mapped)
    pieces.push_back(json::Object{{"type", "ByteLevel"},
                                  {"add_prefix_space", false},
                                  {"trim_offsets", true},
                                  {"use_regex", false}});
  root["normalizer"] = sequence("normalizers", std::move(normalizers));
  root["pre_tokenizer"] = sequence("pretokenizers", std::move(pieces));
  return true;
}

/// SentencePiece has scores, tokenizer.json merges: every way to make a token of two others, best
/// score first.
json::Array mergesFromScores(const json::Array &tokens, const json::Array &types,
                             const json::Array &scores) {
  StringMap<size_t> ids;
  for (size_t i = 0; i < tokens.size(); ++i)
    if (int64_t type = integerOf(types[i]).value_or(1); type == 1 || type == 4)
      ids.try_emplace(tokens[i].getAsString().value_or(""), i);
  struct Merge {
    double score;
    size_t left, right;
  };
  std::vector<Merge> merges;
  for (size_t i = 0; i < tokens.size(); ++i) {
    StringRef text = tokens[i].getAsString().value_or("");
    if (integerOf(types[i]).value_or(1) != 1)
      continue;
    for (size_t cut = 1; cut < text.size(); ++cut) {
      auto left = ids.find(text.take_front(cut)), right = ids.find(text.drop_front(cut));
      if (left != ids.end() && right != ids.end())
        merges.push_back({scores[i].getAsNumber().value_or(0), left->second, right->second});
    }
  }
  sort(merges, [](const Merge &a, const Merge &b) {
    return std::tuple(-a.score, a.left, a.right) < std::tuple(-b.score, b.left, b.right);
  });
  json::Array result;
  for (const Merge &merge : merges)
    result.push_back(json::Array{tokens[merge.left], tokens[merge.right]});
  return result;
}

std::string text(json::Object object) {
  return formatv("{0:2}\n", json::Value(std::move(object))).str();
}

/// The documents of a directory that only the weights of change.
Error copyDocuments(const ModelFile &model, Plan &plan) {
  if (!sys::fs::is_directory(model.path))
    return Error::success();
  StringRef dtype;
  for (const OutTensor &tensor : plan.tensors)
    if (tensor.shape.size() > 1)
      dtype = tensor.type.name;
  for (StringRef name :
       {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "special_tokens_map.json", "chat_template.jinja"}) {
    SmallString<256> path(model.path);
    sys::path::append(path, name);
    auto buffer = MemoryBuffer::getFile(path);
    if (!buffer)
      continue;
    std::string contents = (*buffer)->getBuffer().str();
    if (name == "config.json")
      if (const json::Object *config = model.metadata.getObject("config")) {
        json::Object changed = *config;
        StringRef key = changed.get("dtype") ? "dtype" : "torch_dtype";
        StringRef word = dtype == "BF16"  ? "bfloat16"
                         : dtype == "F16" ? "float16"
                         : dtype == "F32" ? "float32"
                                          : "";
        if (!word.empty() && changed.getString(key).value_or("") != word) {
          changed[key] = word;
          contents = text(std::move(changed));
        }
      }
    plan.documents.push_back({name.str(), std::move(contents)});
  }
  return Error::success();
}

} // namespace

Error addTokenizerDocuments(const ModelFile &model, Plan &plan) {
  if (model.container == Container::HuggingFace)
    return copyDocuments(model, plan);
  const json::Object &metadata = model.metadata;
  const json::Array *tokens = metadata.getArray("tokenizer.ggml.tokens");
  if (!tokens)
    return Error::success();
  Expected<TokenizerData> data = readTokenizer(model);
  if (!data)
    return data.takeError();
  json::Array types, scores;
  if (const json::Array *stored = metadata.getArray("tokenizer.ggml.token_type"))
    types = *stored;
  if (const json::Array *stored = metadata.getArray("tokenizer.ggml.scores"))
    scores = *stored;
  while (types.size() < tokens->size())
    types.push_back(1);
  while (scores.size() < tokens->size())
    scores.push_back(0);

  json::Object root{{"version", "1.0"},
                    {"truncation", nullptr},
                    {"padding", nullptr},
                    {"post_processor", nullptr}};
  if (!describe(*data, root))
    return createStringError(model.path +
                             ": tokenizer.json has no words for this file's pre-tokenizer");
  json::Object vocab;
  json::Array added, merges;
  for (size_t i = 0; i < tokens->size(); ++i) {
    StringRef token = (*tokens)[i].getAsString().value_or("");
    vocab[token] = int64_t(i);
    int64_t type = integerOf(types[i]).value_or(1);
    if (type == int64_t(TokenType::Control) || type == int64_t(TokenType::UserDefined) ||
        type == int64_t(TokenType::Unknown))
      added.push_back(json::Object{{"id", int64_t(i)},
                                   {"content", token},
                                   {"single_word", false},
                                   {"lstrip", false},
                                   {"rstrip", false},
                                   {"normalized", false},
                                   {"special", type != int64_t(TokenType::UserDefined)}});
  }
  bool bytes = data->kind == TokenizerKind::ByteBPE;
  if (bytes) {
    if (const json::Array *stored = metadata.getArray("tokenizer.ggml.merges"))
      for (const json::Value &merge : *stored) {
        auto [left, right] = merge.getAsString().value_or("").split(' ');
        merges.push_back(json::Array{left, right});
      }
    root["decoder"] = json::Object{{"type", "ByteLevel"},
                                   {"add_prefix_space", false},
                                   {"trim_offsets", true},
                                   {"use_regex", true}};
  } else {
    if (data->kind == TokenizerKind::CharBPE)
      merges = mergesFromScores(*tokens, types, scores);
    json::Array steps{json::Object{{"type", "Replace"},
                                   {"pattern", json::Object{{"String", "\xE2\x96\x81"}}},
                                   {"content", " "}},
                      json::Object{{"type", "ByteFallback"}}, json::Object{{"type", "Fuse"}}};
    if (data->stripFirstSpace)
      steps.push_back(json::Object{{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    root["decoder"] = json::Object{{"type", "Sequence"}, {"decoders", std::move(steps)}};
  }
  auto token = [&](int32_t id) -> json::Value {
    return id >= 0 && id < int32_t(tokens->size()) ? (*tokens)[id] : json::Value(nullptr);
  };
  if (!data->prefix.empty()) { // a BOS token in front
    json::Object special;
    json::Array single, pair;
    for (int32_t id : data->prefix) {
      std::string name = token(id).getAsString().value_or("").str();
      single.push_back(json::Object{{"SpecialToken", json::Object{{"id", name}, {"type_id", 0}}}});
      special[name] =
          json::Object{{"id", name}, {"ids", json::Array{id}}, {"tokens", json::Array{name}}};
    }
    single.push_back(json::Object{{"Sequence", json::Object{{"id", "A"}, {"type_id", 0}}}});
    pair = single;
    pair.push_back(json::Object{{"Sequence", json::Object{{"id", "B"}, {"type_id", 1}}}});
    root["post_processor"] = json::Object{{"type", "TemplateProcessing"},
                                          {"single", std::move(single)},
                                          {"pair", std::move(pair)},
                                          {"special_tokens", std::move(special)}};
  }
  root["added_tokens"] = std::move(added);
  if (data->kind == TokenizerKind::Unigram) {
    json::Array pairs;
    for (size_t i = 0; i < tokens->size(); ++i)
      pairs.push_back(json::Array{(*tokens)[i], scores[i]});
    json::Value unknown = nullptr;
    if (data->unknown >= 0)
      unknown = data->unknown;
    root["model"] = json::Object{{"type", "Unigram"},
                                 {"unk_id", std::move(unknown)},
                                 {"vocab", std::move(pairs)},
                                 {"byte_fallback", true}};
  } else
    root["model"] = json::Object{{"type", "BPE"},
                                 {"dropout", nullptr},
                                 {"unk_token", bytes ? json::Value(nullptr) : token(data->unknown)},
                                 {"continuing_subword_prefix", nullptr},
                                 {"end_of_word_suffix", nullptr},
                                 {"fuse_unk", !bytes},
                                 {"byte_fallback", !bytes},
                                 {"ignore_merges", data->ignoreMerges},
                                 {"vocab", std::move(vocab)},
                                 {"merges", std::move(merges)}};
  plan.documents.push_back({"tokenizer.json", text(std::move(root))});

  json::Object config{{"tokenizer_class", "PreTrainedTokenizerFast"},
                      {"bos_token", token(data->bos)},
                      {"eos_token", token(data->eos)},
                      {"unk_token", token(data->unknown)},
                      {"pad_token", token(data->padding)},
                      {"add_bos_token", !data->prefix.empty()}};
  if (std::optional<StringRef> chat = metadata.getString("tokenizer.chat_template"))
    config["chat_template"] = *chat;
  plan.documents.push_back({"tokenizer_config.json", text(std::move(config))});
  json::Object generation{
      {"bos_token_id", data->bos >= 0 ? json::Value(data->bos) : json::Value(nullptr)}};
  json::Array ends;
  for (int32_t id : data->ends)
    ends.push_back(id);
  if (!ends.empty())
    generation["eos_token_id"] =
        ends.size() == 1 ? json::Value(ends[0]) : json::Value(std::move(ends));
  plan.documents.push_back({"generation_config.json", text(std::move(generation))});
  return Error::success();
}

} // namespace quern::exporter
