// What conversions keep of rope scaling and tokenizers, there and back, and what they refuse.
#include "quern/Export/Convert.h"
#include "Builders.h"
#include "quern/Import/ModelConfig.h"
#include "quern/Import/Tokenizer.h"
#include "quern/Runtime/Tokenizer.h"

using namespace quern::import;
using namespace quern::runtime;
using namespace quern::test;

namespace {

const char *const weights =
    R"({"model.embed_tokens.weight":{"dtype":"F32","shape":[4,8],"data_offsets":[0,128]}})";

std::string configJson(const std::string &rope) {
  return R"({"model_type":"qwen2","hidden_size":8,"num_attention_heads":1,"num_hidden_layers":1,
    "intermediate_size":16,"vocab_size":4,"max_position_embeddings":2048,"rope_scaling":)" +
         rope + "}";
}

std::string convertError(const ModelFile &model, const std::string &out) {
  llvm::Error e = quern::exporter::convert(model, out, {});
  return e ? llvm::toString(std::move(e)) : "(no error)";
}

ModelFile opened(const std::string &path) {
  auto model = open(path);
  EXPECT_TRUE(bool(model)) << llvm::toString(model.takeError());
  return model ? std::move(*model) : ModelFile();
}

TEST(Convert, TensorsOfOddSizes) {
  // GGUF begins each at a multiple of 32 bytes, safetensors leaves nothing between them.
  Scratch scratch;
  scratch.write("config.json", configJson("null"));
  std::string data(160, 0);
  for (size_t i = 0; i < data.size(); ++i)
    data[i] = char(i / 4 % 4 ? 0 : i);
  scratch.write("model.safetensors", safetensors(R"({
    "model.layers.0.input_layernorm.weight":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},
    "model.embed_tokens.weight":{"dtype":"F32","shape":[4,8],"data_offsets":[12,140]},
    "model.norm.weight":{"dtype":"F32","shape":[5],"data_offsets":[140,160]}})",
                                                 data));
  ModelFile first = opened(scratch.directory());
  ASSERT_EQ(convertError(first, scratch.file("m.gguf")), "(no error)");
  ModelFile second = opened(scratch.file("m.gguf"));
  ASSERT_EQ(convertError(second, scratch.file("back")), "(no error)");
  ModelFile third = opened(scratch.file("back"));
  for (const ModelFile *model : {&second, &third}) {
    ASSERT_EQ(model->tensors.size(), 3u);
    for (const TensorInfo &tensor : first.tensors) {
      const TensorInfo *same = model->find(tensor.canonical);
      ASSERT_TRUE(same) << tensor.name;
      std::vector<uint8_t> a, b;
      llvm::cantFail(readTensor(first, tensor, a));
      llvm::cantFail(readTensor(*model, *same, b));
      EXPECT_EQ(a, b) << tensor.name;
    }
  }
}

TEST(Convert, KeepsYarnParameters) {
  Scratch scratch;
  scratch.write("config.json", configJson(R"({"rope_type":"yarn","factor":4,"beta_fast":24,
    "beta_slow":2,"attention_factor":0.75,"original_max_position_embeddings":512})"));
  scratch.write("model.safetensors", safetensors(weights, std::string(128, 0)));
  ModelFile first = opened(scratch.directory());
  ASSERT_EQ(convertError(first, scratch.file("m.gguf")), "(no error)");
  ModelFile second = opened(scratch.file("m.gguf"));
  ASSERT_EQ(convertError(second, scratch.file("back")), "(no error)");
  ModelFile third = opened(scratch.file("back"));
  auto a = readConfig(first), b = readConfig(second), c = readConfig(third);
  ASSERT_TRUE(a && b && c);
  EXPECT_EQ(b->rope.betaFast, 24);
  EXPECT_EQ(c->rope.betaSlow, 2);
  for (auto *other : {&*b, &*c}) {
    EXPECT_EQ(a->rope.frequencies, other->rope.frequencies);
    EXPECT_FLOAT_EQ(a->rope.attentionFactor, other->rope.attentionFactor);
  }
}

TEST(Convert, RefusesYarnWithoutTruncation) {
  Scratch scratch;
  scratch.write("config.json", configJson(R"({"rope_type":"yarn","factor":4,"truncate":false,
    "original_max_position_embeddings":512})"));
  scratch.write("model.safetensors", safetensors(weights, std::string(128, 0)));
  EXPECT_EQ(convertError(opened(scratch.directory()), scratch.file("m.gguf")),
            scratch.directory() +
                ": config.json: yarn scaling with 'truncate': false has no GGUF key");
}

Gguf unigram(bool prefix, bool strip) {
  Gguf g;
  g.text("general.architecture", "llama").text("tokenizer.ggml.model", "t5");
  std::vector<std::string> tokens = {"<unk>", "\u2581", "\u2581a", "a", "b", "ab", "<0x0A>"};
  g.strings("tokenizer.ggml.tokens", tokens);
  Bytes scores, types;
  scores.string("tokenizer.ggml.scores").put(uint32_t(9)).put(uint32_t(6)).put(tokens.size());
  types.string("tokenizer.ggml.token_type").put(uint32_t(9)).put(uint32_t(5)).put(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    scores.put(-float(i) / 4);
    types.put(uint32_t(i == 0 ? 2 : i + 1 == tokens.size() ? 6 : 1));
  }
  g.rawKey(scores.data).rawKey(types.data);
  g.u32("tokenizer.ggml.unknown_token_id", 0).u32("llama.vocab_size", 7);
  g.u32("llama.block_count", 1).u32("llama.embedding_length", 8).u32("llama.context_length", 64);
  g.u32("llama.attention.head_count", 1).u32("llama.feed_forward_length", 16);
  g.key("tokenizer.ggml.add_space_prefix", MetadataType::Bool, prefix);
  g.key("tokenizer.ggml.remove_extra_whitespaces", MetadataType::Bool, strip);
  g.tensor("token_embd.weight", {8, 7}, 0, std::string(224, 0));
  return g;
}

std::vector<int32_t> idsOf(const ModelFile &model, std::string_view text) {
  auto data = readTokenizer(model);
  EXPECT_TRUE(bool(data)) << llvm::toString(data.takeError());
  if (!data)
    return {};
  EXPECT_EQ(data->kind, TokenizerKind::Unigram);
  std::string error;
  std::vector<uint8_t> blob = data->serialize(error);
  auto tokenizer = Tokenizer::load(blob.data(), blob.size(), error);
  EXPECT_TRUE(tokenizer) << error;
  return tokenizer ? tokenizer->encode(text, true) : std::vector<int32_t>();
}

TEST(Convert, KeepsUnigramTokenizers) {
  for (bool prefix : {false, true})
    for (bool strip : {false, true}) {
      Scratch scratch;
      ModelFile first = opened(scratch.write("m.gguf", unigram(prefix, strip).bytes()));
      ASSERT_EQ(convertError(first, scratch.file("hf")), "(no error)");
      ModelFile second = opened(scratch.file("hf"));
      ASSERT_EQ(convertError(second, scratch.file("back.gguf")), "(no error)");
      ModelFile third = opened(scratch.file("back.gguf"));
      for (const char *text : {"ab a", "  a  b ", "abba\n", "", "xa"}) {
        std::vector<int32_t> ids = idsOf(first, text);
        EXPECT_EQ(ids, idsOf(second, text)) << text << prefix << strip;
        EXPECT_EQ(ids, idsOf(third, text)) << text << prefix << strip;
      }
      EXPECT_EQ(idsOf(first, "ab").size(), prefix ? 2u : 1u);
    }
}

TEST(Convert, RefusesUnigramStepsThatGgufCannotName) {
  Scratch scratch;
  scratch.write("config.json", configJson("null"));
  scratch.write("model.safetensors", safetensors(weights, std::string(128, 0)));
  scratch.write(
      "tokenizer.json",
      R"({"model":{"type":"Unigram","vocab":[["a",0],["b",-1]]},"normalizer":{"type":"NFKC"}})");
  EXPECT_CONTAINS(convertError(opened(scratch.directory()), scratch.file("m.gguf")),
                  "tokenizer.json: GGUF has no keys for the normalizer and pre-tokenizer of this "
                  "unigram vocabulary");
}

} // namespace
