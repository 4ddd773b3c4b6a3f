// Hyper-parameters out of config.json and GGUF metadata. Frequencies are compared with those
// transformers 5.23 computes for the same configurations.
#include "Builders.h"
#include "quern/Import/ModelConfig.h"
#include <cmath>

using namespace quern::import;
using namespace quern::test;
using Frequencies = std::vector<float>;

namespace {

/// A model in memory with this config.json.
llvm::Expected<ModelConfig> fromJson(const std::string &text) {
  ModelFile model;
  model.container = Container::HuggingFace;
  model.path = "dir";
  auto value = llvm::json::parse(text);
  EXPECT_TRUE(bool(value)) << text << llvm::toString(value.takeError());
  model.metadata["config"] = std::move(*value);
  return readConfig(model);
}

/// The numbers all configurations here share, then `rest`.
std::string json(const std::string &type, const std::string &rest) {
  return R"({"model_type":")" + type +
         R"(","hidden_size":64,"num_attention_heads":4,"num_key_value_heads":2,"num_hidden_layers":2,
            "intermediate_size":96,"vocab_size":50,"max_position_embeddings":2048)" +
         (rest.empty() ? "" : ",") + rest + "}";
}

ModelConfig good(const std::string &text) {
  auto config = fromJson(text);
  EXPECT_TRUE(bool(config)) << llvm::toString(config.takeError());
  return config ? *config : ModelConfig();
}

std::string bad(const std::string &text) {
  auto config = fromJson(text);
  return config ? "(no error)" : llvm::toString(config.takeError());
}

void expectNear(const Frequencies &found, const Frequencies &expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i)
    EXPECT_NEAR(found[i] / expected[i], 1, 3e-7) << i;
}

TEST(Config, Llama3ScalingInBothSpellings) {
  Frequencies expected = {
      1.0f,           0.193922758102417f,     0.010538230650126934f,  0.0009115831344388425f,
      0.00017677668f, 3.428102354519069e-05f, 6.647869668086059e-06f, 1.289173155782919e-06f};
  std::string scaling =
      R"("rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":256)";
  ModelConfig five =
      good(json("llama", R"("rope_parameters":{"rope_theta":500000.0,)" + scaling + "}"));
  ModelConfig four =
      good(json("llama", R"("rope_theta":500000.0,"rope_scaling":{)" + scaling + "}"));
  for (const ModelConfig &c : {five, four}) {
    EXPECT_EQ(c.architecture, "llama");
    EXPECT_EQ(c.rope.theta, 500000);
    EXPECT_EQ(c.rope.dims, 16);
    EXPECT_FALSE(c.rope.interleaved);
    expectNear(c.rope.frequencies, expected);
    EXPECT_EQ(c.rope.attentionFactor, 1);
    EXPECT_EQ(c.headDim, 16);
    EXPECT_EQ(c.attentionScale, 0.25);
    EXPECT_EQ(c.normEps, 1e-6);
    EXPECT_EQ(c.activation, "silu");
    EXPECT_TRUE(c.tiedEmbedding); // no flag, no output matrix
  }
}

TEST(Config, LinearScaling) {
  ModelConfig c = good(
      json("llama",
           R"("head_dim":16,"rope_theta":10000,"rope_scaling":{"type":"linear","factor":4.0})"));
  expectNear(c.rope.frequencies, {0.25f, 0.07905694f, 0.025f, 0.007905694656f, 0.0025f,
                                  0.00079056946f, 0.00025f, 7.9056946e-05f});
}

TEST(Config, Yarn) {
  ModelConfig c = good(json(
      "qwen2",
      R"("rope_parameters":{"rope_type":"yarn","rope_theta":1000000.0,"factor":4.0,"original_max_position_embeddings":512},
    "use_sliding_window":false,"sliding_window":null,"max_window_layers":28,"layer_types":["full_attention","full_attention"])"));
  expectNear(c.rope.frequencies,
             {1.0f, 0.13337095081806183f, 0.015811389312148094f, 0.0014058533124625683f,
              0.0002500000118743628f, 4.4456985051510856e-05f, 7.905693564680405e-06f,
              1.405853367941745e-06f});
  EXPECT_FLOAT_EQ(c.rope.attentionFactor, 1.138629436111989f);
  EXPECT_TRUE(c.attentionBias);
  EXPECT_EQ(c.slidingWindow, 0);
}

TEST(Config, LongRope) {
  std::string factors =
      R"("short_factor":[1.0,1.1,1.2,1.3,1.4,1.5],"long_factor":[1.0,2.0,4.0,8.0,16.0,32.0])";
  ModelConfig five = good(json(
      "phi3",
      R"("original_max_position_embeddings":512,"sliding_window":null,"rope_parameters":{"rope_type":"longrope","rope_theta":10000.0,
    "partial_rotary_factor":0.75,)" +
          factors + "}"));
  ModelConfig four = good(json(
      "phi3", R"("original_max_position_embeddings":512,"sliding_window":31,"rope_theta":10000.0,
    "partial_rotary_factor":0.75,"rope_scaling":{"type":"su",)" +
                  factors + "}"));
  for (const ModelConfig &c : {five, four}) {
    EXPECT_EQ(c.rope.dims, 12);
    expectNear(c.rope.frequencies,
               {1.0f, 0.1958576887845993f, 0.038679901510477066f, 0.007692307699471712f,
                0.001538881566375494f, 0.00030943931778892875f});
    ASSERT_EQ(c.rope.longFrequencies.size(), 6u);
    EXPECT_NEAR(c.rope.longFrequencies[5], 1.4505e-05, 1e-9);
    EXPECT_FLOAT_EQ(c.rope.attentionFactor, 1.1055415967851334f);
    EXPECT_EQ(&c.rope.forContext(512), &c.rope.frequencies);
    EXPECT_EQ(&c.rope.forContext(513), &c.rope.longFrequencies);
    EXPECT_EQ(c.normEps, 1e-5);
  }
  EXPECT_EQ(five.slidingWindow, 0);
  EXPECT_EQ(four.slidingWindow, 31);
  EXPECT_TRUE(four.isLocal(0));
}

TEST(Config, Gemma3InBothSpellings) {
  std::string rest =
      R"(,"num_hidden_layers":7,"head_dim":16,"sliding_window":32,"query_pre_attn_scalar":64,"final_logit_softcapping":30.0)";
  std::string five =
      R"({"model_type":"gemma3_text","hidden_size":64,"num_attention_heads":4,"num_key_value_heads":2,"intermediate_size":96,"vocab_size":50,
    "max_position_embeddings":2048,"rope_parameters":{"full_attention":{"rope_type":"linear","rope_theta":1e6,"factor":8.0},
    "sliding_attention":{"rope_type":"default","rope_theta":10000.0}},"layer_types":["sliding_attention","sliding_attention","sliding_attention",
    "sliding_attention","sliding_attention","full_attention","sliding_attention"])" +
      rest + "}";
  std::string four =
      R"({"model_type":"gemma3","text_config":{"model_type":"gemma3_text","hidden_size":64,"num_attention_heads":4,"num_key_value_heads":2,
    "intermediate_size":96,"vocab_size":50,"max_position_embeddings":2048,"rope_theta":1e6,"rope_local_base_freq":10000.0,
    "rope_scaling":{"rope_type":"linear","factor":8.0},"sliding_window_pattern":6)" +
      rest + "}}";
  for (const std::string &text : {five, four}) {
    ModelConfig c = good(text);
    EXPECT_EQ(c.architecture, "gemma3");
    expectNear(c.rope.frequencies,
               {0.125f, 0.02222849242389202f, 0.0039528473280370235f, 0.0007029266562312841f,
                0.0001250000059371814f, 2.2228492525755428e-05f, 3.9528467823402025e-06f,
                7.029266839708725e-07f});
    EXPECT_EQ(c.localRope.frequencies[0], 1);
    EXPECT_NEAR(c.localRope.frequencies[7], 0.0003162277862429619, 1e-10);
    EXPECT_EQ(c.slidingPattern, 6);
    EXPECT_TRUE(c.isLocal(4));
    EXPECT_FALSE(c.isLocal(5));
    EXPECT_TRUE(c.isLocal(6));
    EXPECT_EQ(c.attentionScale, 0.125);
    EXPECT_EQ(c.embeddingScale, 8);
    EXPECT_EQ(c.finalSoftcap, 30);
    EXPECT_EQ(c.activation, "gelu_tanh");
    EXPECT_TRUE(c.normUnitOffset && c.qkNorm && c.tiedEmbedding);
  }
}

TEST(Config, TheOthers) {
  ModelConfig c = good(json("mistral", R"("sliding_window":1024,"tie_word_embeddings":false)"));
  EXPECT_EQ(c.architecture, "llama");
  EXPECT_EQ(c.slidingWindow, 1024);
  EXPECT_FALSE(c.tiedEmbedding);
  EXPECT_EQ(good(json("mistral", R"("sliding_window":null)")).slidingWindow, 0);
  EXPECT_EQ(good(json("llama", R"("sliding_window":1024)")).slidingWindow,
            0); // not a key of that class
  c = good(json("qwen3", ""));
  EXPECT_EQ(c.headDim, 128); // the class's default, whatever the width
  EXPECT_TRUE(c.qkNorm);
  EXPECT_FALSE(c.attentionBias);
  c = good(json(
      "qwen3_moe",
      R"("head_dim":16,"num_local_experts":4,"num_experts_per_tok":2,"moe_intermediate_size":32,"norm_topk_prob":true,"mlp_only_layers":[])"));
  EXPECT_EQ(c.architecture, "qwen3moe");
  EXPECT_EQ(c.experts, 4);
  EXPECT_EQ(c.expertsUsed, 2);
  EXPECT_EQ(c.expertFeedForward, 32);
  EXPECT_TRUE(c.normalizeExpertWeights);
  c = good(json("qwen2", R"("use_sliding_window":true,"sliding_window":16,"max_window_layers":0)"));
  EXPECT_EQ(c.slidingWindow, 16);
  EXPECT_EQ(c.slidingPattern, 0);
}

TEST(Config, RefusesWhatItDoesNotKnow) {
  EXPECT_CONTAINS(bad(json("bert", "")), "dir/config.json: unknown architecture 'bert'; known: "
                                         "llama, qwen2, qwen3, qwen3moe, gemma3, phi3");
  EXPECT_CONTAINS(bad("{}"), "'model_type' is missing");
  EXPECT_CONTAINS(bad(R"({"model_type":"llama"})"),
                  "dir/config.json: 'num_hidden_layers': is missing");
  EXPECT_CONTAINS(bad(json("llama", R"("rms_norm_eps":"small")")),
                  "'rms_norm_eps': expected a number, found \"small\"");
  EXPECT_CONTAINS(bad(json("llama", R"("rms_norm_eps":0)")), "expected a positive epsilon");
  EXPECT_CONTAINS(bad(json("llama", R"("head_dim":0)")), "'head_dim': expected an integer from 1");
  EXPECT_CONTAINS(bad(json("llama", R"("head_dim":15)")),
                  "the number of rotated dimensions must be even and positive, found 15");
  EXPECT_CONTAINS(bad(json("llama", R"("hidden_act":"relu")")),
                  "'hidden_act': unknown activation 'relu'");
  EXPECT_CONTAINS(bad(json("llama", R"("mlp_bias":true)")), "'mlp_bias'");
  EXPECT_CONTAINS(bad(json("llama", R"("rope_theta":-1)")), "the base must be positive");
  EXPECT_CONTAINS(bad(json("llama", R"("rope_scaling":{"rope_type":"spiral","factor":2})")),
                  "unknown scaling type 'spiral'; known: default");
  EXPECT_CONTAINS(bad(json("llama", R"("rope_scaling":{"rope_type":"linear"})")),
                  "scaling of type 'linear' needs a positive factor");
  EXPECT_CONTAINS(
      bad(json(
          "llama",
          R"("rope_scaling":{"rope_type":"llama3","factor":2,"low_freq_factor":4,"high_freq_factor":1})")),
      "low_freq_factor < high_freq_factor");
  EXPECT_CONTAINS(bad(json("llama", R"("rope_scaling":7)")), "expected an object");
  EXPECT_CONTAINS(
      bad(json("phi3",
               R"("rope_scaling":{"type":"longrope","short_factor":[1],"long_factor":[1]})")),
      "expected 8 short factors, found 1");
  EXPECT_CONTAINS(bad(json("phi3", R"("partial_rotary_factor":1.5)")), "'partial_rotary_factor'");
  EXPECT_CONTAINS(bad(json("llama", R"("quantization_config":{"quant_method":"awq"})")),
                  "quantized with 'awq'");
  EXPECT_CONTAINS(
      bad(json(
          "qwen2",
          R"("use_sliding_window":true,"sliding_window":4,"layer_types":["full_attention","sliding_attention"])")),
      "the full-attention layers are not every n-th one");
  EXPECT_CONTAINS(
      bad(json("gemma3_text", R"("head_dim":16,"layer_types":["full_attention","sideways"])")),
      "unknown layer type 'sideways'");
  EXPECT_CONTAINS(bad(json("gemma3_text", R"("head_dim":16,"layer_types":["full_attention"])")),
                  "expected a list of 2 layer types");
  EXPECT_CONTAINS(
      bad(json("gemma3_text",
               R"("head_dim":16,"layer_types":["full_attention","sliding_attention"])")),
      "not every n-th one");
  EXPECT_CONTAINS(
      bad(json(
          "qwen3_moe",
          R"("head_dim":16,"num_experts":2,"num_experts_per_tok":3,"moe_intermediate_size":8)")),
      "uses 3 experts of 2");
  EXPECT_CONTAINS(
      bad(json(
          "qwen3_moe",
          R"("head_dim":16,"num_experts":2,"num_experts_per_tok":1,"moe_intermediate_size":8,"decoder_sparse_step":2)")),
      "'decoder_sparse_step'");
  std::string odd = json("llama", "");
  odd.replace(odd.find("\"num_key_value_heads\":2"), 23, "\"num_key_value_heads\":3");
  EXPECT_CONTAINS(bad(odd), "expected the 4 heads to be a multiple of the 3 key-value heads");
}

Gguf gguf(const std::string &architecture) {
  Gguf g;
  std::string a = architecture + ".";
  g.text("general.architecture", architecture)
      .u32(a + "block_count", 2)
      .u32(a + "embedding_length", 64);
  g.u32(a + "attention.head_count", 4)
      .u32(a + "attention.head_count_kv", 2)
      .u32(a + "context_length", 2048);
  g.u32(a + "feed_forward_length", 96)
      .f32(a + "attention.layer_norm_rms_epsilon", 1e-5f)
      .u32(a + "vocab_size", 50);
  return g;
}

llvm::Expected<ModelConfig> fromGguf(const Gguf &g) {
  Scratch scratch;
  auto model = open(scratch.write("m.gguf", g.bytes()));
  if (!model)
    return model.takeError();
  return readConfig(*model);
}

std::string badGguf(const Gguf &g) {
  auto config = fromGguf(g);
  return config ? "(no error)" : llvm::toString(config.takeError());
}

ModelConfig goodGguf(const Gguf &g) {
  auto config = fromGguf(g);
  EXPECT_TRUE(bool(config)) << llvm::toString(config.takeError());
  return config ? *config : ModelConfig();
}

TEST(ConfigGGUF, Llama) {
  Gguf g = gguf("llama").f32("llama.rope.freq_base", 500000);
  g.tensor("rope_freqs.weight", {8}, 0, floats({1, 1, 1.25f, 2, 8, 8, 8, 8}));
  ModelConfig c = goodGguf(g);
  EXPECT_TRUE(c.rope.interleaved);
  EXPECT_TRUE(c.tiedEmbedding);
  EXPECT_EQ(c.vocab, 50);
  EXPECT_NEAR(c.rope.frequencies[2], 0.0376060309 / 1.25, 1e-8);
  EXPECT_NEAR(c.rope.frequencies[7], 1.03133852e-05 / 8, 1e-12);
  EXPECT_CONTAINS(badGguf(gguf("llama").tensor("rope_freqs.weight", {2}, 0, floats({1, 1}))),
                  "expected 8 frequency factors, found 2");
  EXPECT_CONTAINS(badGguf(gguf("llama").tensor("rope_freqs.weight", {8}, 1, std::string(16, 0))),
                  "must be a short vector of F32, found F16");
}

/// 2^63 as a double is where a conversion to int64 stops being defined.
TEST(Config, HugeNumbersAreNotIntegers) {
  EXPECT_CONTAINS(bad(json("llama", R"("head_dim":9223372036854775808)")),
                  "'head_dim': expected an integer");
  EXPECT_CONTAINS(bad(json("llama", R"("head_dim":9.3e18)")), "'head_dim': expected an integer");
  EXPECT_CONTAINS(badGguf(gguf("llama").key("llama.attention.key_length", MetadataType::Float64,
                                            9223372036854775808.0)),
                  "expected an integer");
}

TEST(ConfigGGUF, Scalings) {
  ModelConfig c = goodGguf(gguf("qwen2")
                               .f32("qwen2.rope.freq_base", 1e6)
                               .text("qwen2.rope.scaling.type", "yarn")
                               .f32("qwen2.rope.scaling.factor", 4)
                               .u32("qwen2.rope.scaling.original_context_length", 512));
  expectNear(c.rope.frequencies,
             {1.0f, 0.13337095081806183f, 0.015811389312148094f, 0.0014058533124625683f,
              0.0002500000118743628f, 4.4456985051510856e-05f, 7.905693564680405e-06f,
              1.405853367941745e-06f});
  EXPECT_FLOAT_EQ(c.rope.attentionFactor, 1.138629436111989f);
  EXPECT_FALSE(c.rope.interleaved);
  c = goodGguf(gguf("llama").f32("llama.rope.scaling.factor", 4));
  EXPECT_EQ(c.rope.frequencies[0], 0.25f);
  Gguf phi = gguf("phi3")
                 .u32("phi3.rope.dimension_count", 12)
                 .u32("phi3.rope.scaling.original_context_length", 512)
                 .f32("phi3.rope.scaling.attn_factor", 1.5f);
  phi.tensor("rope_factors_short.weight", {6}, 0, floats({1, 1.1f, 1.2f, 1.3f, 1.4f, 1.5f}))
      .tensor("rope_factors_long.weight", {6}, 0, floats({1, 2, 4, 8, 16, 32}));
  c = goodGguf(phi);
  expectNear(c.rope.frequencies,
             {1.0f, 0.1958576887845993f, 0.038679901510477066f, 0.007692307699471712f,
              0.001538881566375494f, 0.00030943931778892875f});
  EXPECT_EQ(c.rope.attentionFactor, 1.5f);
  EXPECT_EQ(c.rope.originalContext, 512);
}

TEST(ConfigGGUF, Gemma3AndExperts) {
  ModelConfig c = goodGguf(gguf("gemma3")
                               .u32("gemma3.attention.key_length", 16)
                               .u32("gemma3.attention.value_length", 16)
                               .u32("gemma3.attention.sliding_window", 32)
                               .f32("gemma3.rope.scaling.factor", 8));
  EXPECT_FALSE(c.normUnitOffset); // the file's gains are 1 + w already
  EXPECT_EQ(c.slidingPattern, 6);
  EXPECT_EQ(c.rope.frequencies[0], 0.125f);
  EXPECT_EQ(c.localRope.frequencies[0], 1);
  EXPECT_EQ(c.embeddingScale, 8);
  Gguf moe = gguf("qwen3moe")
                 .u32("qwen3moe.expert_count", 4)
                 .u32("qwen3moe.expert_used_count", 2)
                 .u32("qwen3moe.expert_feed_forward_length", 32);
  c = goodGguf(moe);
  EXPECT_EQ(c.expertsUsed, 2);
  EXPECT_TRUE(c.normalizeExpertWeights);
}

TEST(ConfigGGUF, RefusesWhatItDoesNotKnow) {
  EXPECT_CONTAINS(badGguf(gguf("bert")), "unknown architecture 'bert'; known: llama");
  EXPECT_CONTAINS(badGguf(Gguf()), "'general.architecture' is missing");
  EXPECT_CONTAINS(badGguf(Gguf().text("general.architecture", "llama")),
                  "'llama.block_count': is missing");
  EXPECT_CONTAINS(badGguf(gguf("llama").u32("llama.attention.value_length", 8)),
                  "differs from the length of keys");
  EXPECT_CONTAINS(badGguf(gguf("llama").u32("llama.rope.dimension_count", 32)),
                  "rope rotates 32 dimensions of heads that have 16");
  EXPECT_CONTAINS(badGguf(gguf("llama").u32("llama.expert_count", 8)), "qwen3moe only");
  EXPECT_CONTAINS(
      badGguf(gguf("llama").tensor("token_embd.weight", {32, 1}, 0, std::string(128, 0))),
      "has rows of 32 elements; the model's width is 64");
}

/// Real files, where the reference data is at hand.
TEST(ConfigGGUF, TheModelInTheRepository) {
  auto model = open(QUERN_SOURCE_DIR "/models/tiny");
  ASSERT_TRUE(bool(model)) << llvm::toString(model.takeError());
  auto config = readConfig(*model);
  ASSERT_TRUE(bool(config)) << llvm::toString(config.takeError());
  EXPECT_EQ(config->width, 256);
  EXPECT_EQ(config->layers, 4);
  EXPECT_EQ(config->kvHeads, 4);
  EXPECT_EQ(config->vocab, 4096);
  EXPECT_TRUE(config->tiedEmbedding);
  for (int64_t layer = 0; layer < config->layers; ++layer)
    for (const char *name : {"attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm",
                             "ffn_gate", "ffn_up", "ffn_down"})
      EXPECT_TRUE(model->find("blk." + std::to_string(layer) + "." + name + ".weight")) << name;
}

TEST(ConfigGGUF, SharedVocabularies) {
  const char *shared = getenv("QUERN_SHARED");
  if (!shared || !llvm::sys::fs::is_directory(std::string(shared) + "/vocab"))
    GTEST_SKIP() << "no reference data";
  for (const char *name :
       {"deepseek-coder", "gpt-2", "llama-bpe", "llama-spm", "qwen2", "starcoder"}) {
    auto model = open(std::string(shared) + "/vocab/" + name + ".gguf");
    ASSERT_TRUE(bool(model)) << llvm::toString(model.takeError());
    EXPECT_GT(model->metadata.getArray("tokenizer.ggml.tokens")->size(), 30000u) << name;
  }
}

} // namespace
