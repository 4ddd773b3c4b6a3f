// Everything the importers of tokenizers refuse: one message, on one line, that begins with the
// file and names what is wrong.
#include "quern/Import/Tokenizer.h"
#include "quern/Runtime/Tokenizer.h"
#include "gtest/gtest.h"

using namespace quern::import;
using namespace quern::runtime;
namespace json = llvm::json;

namespace {

struct Case {
  const char *name;
  const char *change;   ///< members that replace those of the good document
  const char *expected; ///< in the message
};

/// `base` with the members of `change` in place of its own; null removes one.
json::Object changed(const char *base, const char *change) {
  json::Object result = *llvm::cantFail(json::parse(base)).getAsObject();
  llvm::Expected<json::Value> members = json::parse(change);
  EXPECT_TRUE(bool(members)) << change << ": " << llvm::toString(members.takeError());
  for (auto &[key, value] : *members->getAsObject()) {
    result.erase(key);
    if (value.kind() != json::Value::Null)
      result[key] = value;
  }
  return result;
}

void expectError(llvm::Expected<TokenizerData> data, const Case &c) {
  std::string message = "(no error)";
  if (!data) {
    message = llvm::toString(data.takeError());
    EXPECT_EQ(message.rfind("file: ", 0), 0u) << c.name << ": " << message;
  } else {
    std::string error; // some checks are made when the tables are laid out
    data->serialize(error);
    if (!error.empty())
      message = error;
  }
  EXPECT_EQ(message.find('\n'), std::string::npos) << c.name << ": " << message;
  EXPECT_NE(message.find(c.expected), std::string::npos) << c.name << ": " << message;
}

const char *const goodJson = R"({
  "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
  "added_tokens": [{"id": 3, "content": "<s>", "special": true}],
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
  "post_processor": {"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
    "special_tokens": {"<s>": {"ids": [3]}}}})";

const Case jsonCases[] = {
    {"no model", R"({"model": null})", "model is missing"},
    {"WordPiece", R"({"model": {"type": "WordPiece"}})",
     "tokenizer model 'WordPiece' is not supported; known: BPE, Unigram"},
    {"no vocabulary", R"({"model": {"type": "BPE", "merges": []}})",
     "model.vocab is missing or empty"},
    {"no merges", R"({"model": {"type": "BPE", "vocab": {"a": 0}}})", "model.merges is missing"},
    {"a prefix", R"({"model": {"type": "BPE", "continuing_subword_prefix": "##"}})",
     "model.continuing_subword_prefix is not supported"},
    {"a suffix", R"({"model": {"type": "BPE", "end_of_word_suffix": "</w>"}})",
     "model.end_of_word_suffix is not supported"},
    {"dropout", R"({"model": {"type": "BPE", "dropout": 0.1}})", "model.dropout is not supported"},
    {"negative id", R"({"model": {"type": "BPE", "vocab": {"a": -1}}})",
     "token 'a' has an id outside 0 .. "},
    {"huge id", R"({"model": {"type": "BPE", "vocab": {"a": 9223372036854775808}}})",
     "token 'a' has an id outside 0 .. "},
    {"fraction", R"({"model": {"type": "BPE", "vocab": {"a": 0.5}}})",
     "token 'a' has an id outside 0 .. "},
    {"far id", R"({"model": {"type": "BPE", "vocab": {"a": 70000}}})",
     "token 'a' has an id outside 0 .. 65538"},
    {"same id", R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}})",
     "have the same id 0"},
    {"merge of one", R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a"]}})",
     "model.merges[0] is not two tokens"},
    {"merge of a number", R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [7]}})",
     "model.merges[0] is not two tokens"},
    {"merge of strangers",
     R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a","c"]]}})",
     "model.merges[0] 'a' + 'c' names a token that is not in the vocabulary"},
    {"unigram of pairs",
     R"({"model": {"type": "Unigram", "vocab": [["a"]]}, "pre_tokenizer": null})",
     "model.vocab[0] is not a token and its score"},
    {"unigram without", R"({"model": {"type": "Unigram", "vocab": []}})",
     "model.vocab is missing or empty"},
    {"unigram unknown", R"({"model": {"type": "Unigram", "vocab": [["a", 0]], "unk_id": 1}})",
     "model.unk_id 1 is outside the vocabulary of 1 tokens"},
    {"unigram over bytes", R"({"model": {"type": "Unigram", "vocab": [["a", 0]]}})",
     "a unigram model over bytes is not supported"},
    {"unigram score", R"({"model": {"type": "Unigram", "vocab": [["a", "b"]]}})",
     "model.vocab[0] is not a token and its score"},
    {"infinite unigram score", R"({"model": {"type": "Unigram", "vocab": [["a", 1e999]]}})",
     "model.vocab[0] is not a token and its score"},
    {"added without content", R"({"added_tokens": [{"id": 3}]})",
     "an entry of added_tokens has no content"},
    {"added far away", R"({"added_tokens": [{"id": 1e18, "content": "x"}]})",
     "token 'x' has an id outside 0 .. "},
    {"normalizer", R"({"normalizer": {"type": "Precompiled"}})",
     "normalizer 'Precompiled' is not supported; known: NFC"},
    {"replace without pattern", R"({"normalizer": {"type": "Replace", "content": "x"}})",
     "normalizer Replace has no pattern"},
    {"sequence without list", R"({"normalizer": {"type": "Sequence"}})",
     "a Sequence has no list 'normalizers'"},
    {"sequence of numbers", R"({"normalizer": {"type": "Sequence", "normalizers": [1]}})",
     "an entry of 'normalizers' is not an object"},
    {"pre-tokenizer", R"({"pre_tokenizer": {"type": "UnicodeScripts"}})",
     "pre-tokenizer 'UnicodeScripts' is not supported; known: ByteLevel"},
    {"split without pattern", R"({"pre_tokenizer": {"type": "Split", "behavior": "Isolated"}})",
     "pre-tokenizer Split has no pattern"},
    {"split behavior",
     R"({"pre_tokenizer": {"type": "Split", "behavior": "Sideways", "pattern": {"String": "a"}}})",
     "unknown behavior 'Sideways' of a pre-tokenizer"},
    {"punctuation behavior", R"({"pre_tokenizer": {"type": "Punctuation", "behavior": "Up"}})",
     "unknown behavior 'Up' of a pre-tokenizer"},
    {"metaspace scheme", R"({"pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "last"}})",
     "unknown prepend_scheme 'last' of pre-tokenizer Metaspace"},
    {"bad expression",
     R"({"pre_tokenizer": {"type": "Split", "behavior": "Isolated", "pattern": {"Regex": "(a"}}})",
     "(a"},
    {"decoder", R"({"decoder": {"type": "CTC"}})",
     "decoder 'CTC' is not supported; known: ByteLevel"},
    {"decoder replace", R"({"decoder": {"type": "Replace", "pattern": {"String": "x"}}})",
     "decoder Replace is supported only from U+2581 to a space"},
    {"decoder strip", R"({"decoder": {"type": "Strip", "content": " ", "start": 1e300}})",
     "decoder Strip is supported only for one leading space"},
    {"post-processor", R"({"post_processor": {"type": "Nope"}})",
     "post_processor 'Nope' is not supported"},
    {"post-processor id", R"({"post_processor": {"type": "BertProcessing", "cls": ["<s>", 99]}})",
     "post_processor: id 99 is outside the vocabulary"},
    {"post-processor piece",
     R"({"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "y"}}]}})",
     "post_processor.single[0] is neither a sequence nor a special token"},
    {"post-processor ids",
     R"({"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "y"}}],
         "special_tokens": {"y": {"ids": [1e19]}}}})",
     "post_processor: id -1 is outside the vocabulary"},
};

TEST(TokenizerJson, RefusesWhatItCannotRead) {
  llvm::Expected<TokenizerData> good =
      tokenizerFromJson(changed(goodJson, "{}"), nullptr, nullptr, "file");
  ASSERT_TRUE(bool(good)) << llvm::toString(good.takeError());
  std::string error;
  good->serialize(error);
  ASSERT_EQ(error, "");
  for (const Case &c : jsonCases)
    expectError(tokenizerFromJson(changed(goodJson, c.change), nullptr, nullptr, "file"), c);
}

TEST(TokenizerJson, SequencesAreBounded) {
  std::string deep = R"({"type": "NFC"})";
  for (int i = 0; i < 12; ++i)
    deep = R"({"type": "Sequence", "normalizers": [)" + deep + "]}";
  std::string change = R"({"normalizer": )" + deep + "}";
  expectError(tokenizerFromJson(changed(goodJson, change.c_str()), nullptr, nullptr, "file"),
              {"deep", "", "sequences of 'normalizers' are too deep or too long"});
}

/// Numbers beyond what integers hold are none, wherever they stand.
TEST(TokenizerJson, HugeNumbersBesideTheTokenizer) {
  json::Object config = changed(R"({"bos_token": "<s>"})", "{}"),
               generation = changed(
                   R"({"eos_token_id": [1, 1e19, -1e300, 0.5], "bos_token_id": 1e99})", "{}");
  llvm::Expected<TokenizerData> data =
      tokenizerFromJson(changed(goodJson, "{}"), &config, &generation, "file");
  ASSERT_TRUE(bool(data)) << llvm::toString(data.takeError());
  EXPECT_EQ(data->ends, (std::vector<int32_t>{1}));
  EXPECT_EQ(data->bos, 3);
}

const char *const goodGguf = R"({
  "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2",
  "tokenizer.ggml.tokens": ["a", "b", "ab", "<s>"], "tokenizer.ggml.token_type": [1, 1, 1, 3],
  "tokenizer.ggml.merges": ["a b"], "tokenizer.ggml.bos_token_id": 3})";

const Case ggufCases[] = {
    {"no model", R"({"tokenizer.ggml.model": null})",
     "no tokenizer: tokenizer.ggml.model is missing"},
    {"bert", R"({"tokenizer.ggml.model": "bert"})",
     "tokenizer model 'bert' is not supported; known: gpt2, llama, t5"},
    {"no tokens", R"({"tokenizer.ggml.tokens": null})",
     "tokenizer.ggml.tokens is missing or empty"},
    {"empty", R"({"tokenizer.ggml.tokens": []})", "tokenizer.ggml.tokens is missing or empty"},
    {"a number", R"({"tokenizer.ggml.tokens": ["a", "b", 7, "c"]})",
     "tokenizer.ggml.tokens[2] is not a string"},
    {"types", R"({"tokenizer.ggml.token_type": [1]})",
     "tokenizer.ggml.token_type has 1 entries for 4 tokens"},
    {"type", R"({"tokenizer.ggml.token_type": [1, 1, 1, 7]})",
     "tokenizer.ggml.token_type[3] is no token type (1 to 6)"},
    {"huge type", R"({"tokenizer.ggml.token_type": [1, 1, 1, 9.3e18]})",
     "tokenizer.ggml.token_type[3] is no token type"},
    {"scores", R"({"tokenizer.ggml.scores": [1]})",
     "tokenizer.ggml.scores has 1 entries for 4 tokens"},
    {"score", R"({"tokenizer.ggml.scores": [1, 2, "x", 3]})",
     "tokenizer.ggml.scores[2] is not a number"},
    {"infinite score", R"({"tokenizer.ggml.scores": [1, 2, 3, -1e999]})",
     "tokenizer.ggml.scores[3] is not a number"},
    {"no merges", R"({"tokenizer.ggml.merges": null})", "tokenizer.ggml.merges is missing"},
    {"merge", R"({"tokenizer.ggml.merges": ["ab"]})",
     "tokenizer.ggml.merges[0] is not two tokens separated by a space"},
    {"merge of strangers", R"({"tokenizer.ggml.merges": ["a c"]})",
     "tokenizer.ggml.merges[0] 'a c' names a token that is not in the vocabulary"},
    {"no pre-tokenizer", R"({"tokenizer.ggml.pre": null})",
     "tokenizer.ggml.pre is missing: the file does not say how it cuts text into words"},
    {"unknown pre-tokenizer", R"({"tokenizer.ggml.pre": "viking"})", "'viking'"},
    {"bos", R"({"tokenizer.ggml.bos_token_id": 4})",
     "tokenizer.ggml.bos_token_id is outside the vocabulary of 4 tokens"},
    {"huge eos", R"({"tokenizer.ggml.eos_token_id": 1e19})",
     "tokenizer.ggml.eos_token_id is outside the vocabulary of 4 tokens"},
    {"llama without scores", R"({"tokenizer.ggml.model": "llama"})",
     "tokenizer.ggml.scores is missing"},
    {"byte token",
     R"({"tokenizer.ggml.model": "llama", "tokenizer.ggml.scores": [0, 0, 0, 0],
         "tokenizer.ggml.token_type": [6, 1, 1, 1]})",
     "byte token 0 is 'a', expected the form <0xAB>"},
    {"charsmap",
     R"({"tokenizer.ggml.model": "t5", "tokenizer.ggml.scores": [0, 0, 0, 0],
         "tokenizer.ggml.precompiled_charsmap": [1]})",
     "the normalizer tokenizer.ggml.precompiled_charsmap is not supported"},
};

TEST(TokenizerGguf, RefusesWhatItCannotRead) {
  llvm::Expected<TokenizerData> good = tokenizerFromGguf(changed(goodGguf, "{}"), "file");
  ASSERT_TRUE(bool(good)) << llvm::toString(good.takeError());
  for (const Case &c : ggufCases)
    expectError(tokenizerFromGguf(changed(goodGguf, c.change), "file"), c);
}

/// The ways to cut a token in two are tried one by one: a token of a megabyte must not be.
TEST(TokenizerGguf, LongTokensAreRefused) {
  std::string change = R"({"tokenizer.ggml.model": "llama", "tokenizer.ggml.scores": [0, 0, 0, 0],
      "tokenizer.ggml.tokens": ["a", "aa", "b", ")" +
                       std::string(1 << 20, 'a') + R"("]})";
  expectError(tokenizerFromGguf(changed(goodGguf, change.c_str()), "file"),
              {"long", "", "token 3 has 1048576 bytes; at most 1024 are supported"});
}

} // namespace
