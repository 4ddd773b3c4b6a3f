// What the readers of safetensors and model directories accept and refuse.
#include "Builders.h"
#include "quern/Import/Parsers.h"
#include "quern/Support/Json.h"

using namespace quern::import;
using namespace quern::test;

namespace {

std::string entry(const std::string &name, const std::string &dtype, const std::string &shape,
                  uint64_t begin, uint64_t end) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
         ",\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(end) + "]}";
}

std::string errorOf(const std::string &header, const std::string &data = std::string(8, '\0')) {
  Scratch scratch;
  return openError(scratch.write("m.safetensors", safetensors(header, data)));
}

TEST(Safetensors, ReadsTensorsInDataOrder) {
  Scratch scratch;
  std::string header =
      "{" + entry("b", "F32", "[2]", 4, 12) + "," + entry("a", "BF16", "[2,1]", 0, 4) + "," +
      entry("c", "F8_E4M3", "[1]", 12, 13) + ",\"__metadata__\":{\"format\":\"pt\"}}   ";
  auto model =
      open(scratch.write("m.safetensors", safetensors(header, "abcd" + floats({1, 2}) + "x")));
  ASSERT_TRUE(bool(model)) << llvm::toString(model.takeError());
  ASSERT_EQ(model->tensors.size(), 3u);
  EXPECT_EQ(model->tensors[0].name, "a");
  EXPECT_EQ(model->tensors[0].shape, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(*model->metadata.getObject("safetensors")->getString("format"), "pt");
  std::vector<uint8_t> bytes;
  ASSERT_FALSE(bool(readTensor(*model, *model->find("b"), bytes)));
  EXPECT_EQ(std::string(bytes.begin(), bytes.end()), floats({1, 2}));
}

TEST(Safetensors, RefusesBadHeaders) {
  Scratch scratch;
  auto bytes = [&](const std::string &b) { return openError(scratch.write("m.safetensors", b)); };
  EXPECT_CONTAINS(bytes("abc"), "expected 8 bytes of header length, found a file of 3 bytes");
  EXPECT_CONTAINS(bytes(Bytes().put(uint64_t(200000000)).data),
                  "the header's length is 200000000; at most 100000000");
  EXPECT_CONTAINS(bytes(Bytes().put(uint64_t(100)).raw("{}").data),
                  "the header's length is 100, but the file has only 10 bytes");
  EXPECT_CONTAINS(errorOf("[]"), "expected the header to begin with '{'");
  EXPECT_CONTAINS(errorOf("{\"a\":}"), "JSON:");
  EXPECT_CONTAINS(
      errorOf("{" + entry("a", "F32", "[1]", 0, 4) + "," + entry("a", "F32", "[1]", 4, 8) + "}"),
      "the key \"a\" occurs twice");
  EXPECT_CONTAINS(errorOf("{" + entry("a", "F32", "[1]", 0, 4) + "," +
                          entry("\\u0061", "F32", "[1]", 4, 8) + "}"),
                  "occurs twice");
  EXPECT_CONTAINS(errorOf("{\"a\":3}"), "expected tensor 'a' to be an object");
  EXPECT_CONTAINS(errorOf("{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}"),
                  "tensor 'a' lacks 'data_offsets'");
  EXPECT_CONTAINS(errorOf("{\"__metadata__\":{\"k\":1}}"), "'k' to be a string");
  EXPECT_CONTAINS(errorOf("{\"__metadata__\":7}"), "expected '__metadata__' to be an object");
}

TEST(Safetensors, RefusesBadTensors) {
  EXPECT_CONTAINS(errorOf("{" + entry("a", "Q4", "[2]", 0, 8) + "}"),
                  "tensor 'a' has the unknown type 'Q4'");
  EXPECT_CONTAINS(errorOf("{" + entry("a", "F32", "[-2]", 0, 8) + "}"),
                  "something other than sizes");
  EXPECT_CONTAINS(errorOf("{" + entry("a", "F32", "[4611686018427387904,4]", 0, 8) + "}"),
                  "overflows 63 bits");
  EXPECT_CONTAINS(errorOf("{" + entry("a", "F32", "[1,1,1,1,1,1,1,1,1]", 0, 4) + "}"),
                  "has 9 dimensions");
  EXPECT_CONTAINS(errorOf("{" + entry("a", "F32", "[2]", 8, 0) + "}"), "to be [begin, end]");
  EXPECT_CONTAINS(errorOf("{" + entry("a", "F32", "[3]", 0, 8) + "}"),
                  "needs 12 bytes, its range has 8");
  EXPECT_CONTAINS(errorOf("{" + entry("a", "F32", "[4]", 0, 16) + "}"),
                  "ends at byte 16 of the data, which has 8");
  EXPECT_CONTAINS(
      errorOf("{" + entry("a", "F32", "[2]", 0, 8) + "," + entry("b", "F32", "[1]", 4, 8) + "}"),
      "tensors 'a' and 'b' overlap");
  EXPECT_CONTAINS(errorOf("{" + entry("a", "F32", "[1]", 4, 8) + "}"),
                  "4 bytes before tensor 'a' belong to no tensor");
  EXPECT_CONTAINS(errorOf("{" + entry("a", "F32", "[1]", 0, 4) + "}"), "the tensors end at byte");
}

TEST(Json, NestingIsBounded) {
  auto value = quern::parseJson(std::string(100000, '['), "f");
  ASSERT_FALSE(bool(value));
  EXPECT_CONTAINS(llvm::toString(value.takeError()),
                  "f: JSON: nested deeper than 64 levels at byte 64");
  // Brackets in strings do not count, nor do keys of different objects.
  auto good = quern::parseJson("{\"a\":{\"a\":\"[[[\\\"[[\"},\"b\":[{\"a\":1},{\"a\":2}]}", "f");
  EXPECT_TRUE(bool(good)) << llvm::toString(good.takeError());
}

const char *config =
    R"({"model_type":"llama","hidden_size":8,"num_hidden_layers":1,"num_attention_heads":2,
  "intermediate_size":16,"vocab_size":4,"max_position_embeddings":64,"rms_norm_eps":1e-5,"rope_theta":10000.0})";

TEST(HuggingFace, ReadsADirectory) {
  Scratch scratch;
  scratch.write("config.json", config);
  scratch.write("generation_config.json", "{\"eos_token_id\":2}");
  scratch.write("tokenizer_config.json", "{\"bos_token\":\"<s>\"}");
  scratch.write("tokenizer.json", "{\"version\":\"1.0\"}");
  scratch.write("chat_template.jinja", "{{ 1 }}");
  scratch.write(
      "model.safetensors",
      safetensors("{" + entry("model.layers.0.self_attn.q_proj.weight", "F32", "[2]", 0, 8) + "}",
                  floats({1, 2})));
  auto model = open(scratch.directory());
  ASSERT_TRUE(bool(model)) << llvm::toString(model.takeError());
  EXPECT_EQ(model->container, Container::HuggingFace);
  EXPECT_EQ(*model->metadata.getObject("generation_config")->getInteger("eos_token_id"), 2);
  EXPECT_EQ(*model->metadata.getString("chat_template"), "{{ 1 }}");
  ASSERT_TRUE(model->find("blk.0.attn_q.weight"));
  EXPECT_EQ(model->find("blk.0.attn_q.weight"),
            model->find("model.layers.0.self_attn.q_proj.weight"));
}

TEST(HuggingFace, ReadsShards) {
  Scratch scratch;
  scratch.write("config.json", config);
  auto index = [&](const std::string &map) {
    scratch.write("model.safetensors.index.json", "{\"metadata\":{},\"weight_map\":" + map + "}");
    return openError(scratch.directory());
  };
  EXPECT_CONTAINS(index("{\"a\":\"s1.safetensors\"}"), "s1.safetensors: No such file");
  scratch.write("s1.safetensors",
                safetensors("{" + entry("a", "F32", "[1]", 0, 4) + "}", floats({1})));
  scratch.write("s2.safetensors",
                safetensors("{" + entry("b", "F32", "[1]", 0, 4) + "}", floats({2})));
  EXPECT_EQ(index("{\"b\":\"s2.safetensors\",\"a\":\"s1.safetensors\"}"), "(no error)");
  auto model = open(scratch.directory());
  std::vector<uint8_t> bytes;
  ASSERT_FALSE(bool(readTensor(*model, *model->find("b"), bytes)));
  EXPECT_EQ(std::string(bytes.begin(), bytes.end()), floats({2}));
  EXPECT_CONTAINS(index("{\"b\":\"s1.safetensors\",\"a\":\"s1.safetensors\"}"),
                  "tensor 'b' is not in 's1.safetensors'");
  EXPECT_CONTAINS(index("{\"a\":\"../s1.safetensors\"}"),
                  "'../s1.safetensors' is not the name of a file in the same directory");
  EXPECT_CONTAINS(index("{\"a\":1}"), "expected the file of tensor 'a' to be a string");
  EXPECT_CONTAINS(index("[]"), "'weight_map'");
  scratch.write("s2.safetensors",
                safetensors("{" + entry("a", "F32", "[1]", 0, 4) + "}", floats({2})));
  EXPECT_CONTAINS(index("{\"b\":\"s2.safetensors\",\"a\":\"s1.safetensors\"}"),
                  "tensor 'a' occurs in 's1.safetensors' too");
}

TEST(HuggingFace, RefusesWhatItCannotRead) {
  Scratch scratch;
  EXPECT_CONTAINS(openError(scratch.directory()),
                  "found neither 'config.json' nor 'tokenizer.json'");
  EXPECT_CONTAINS(openError(scratch.file("nothing")), "No such file");
  scratch.write("config.json", config);
  EXPECT_CONTAINS(openError(scratch.directory()), "found neither 'model.safetensors' nor");
  scratch.write("pytorch_model.bin", "x");
  EXPECT_CONTAINS(openError(scratch.directory()), "the weights are pickled ('pytorch_model.bin')");
  scratch.write(
      "config.json",
      "{\"model_type\":\"llama\",\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4}}");
  EXPECT_CONTAINS(openError(scratch.directory()),
                  "the weights are quantized with 'gptq' ('quantization_config')");
  scratch.write("config.json", "[1]");
  EXPECT_CONTAINS(openError(scratch.directory()), "config.json: expected a JSON object");
}

/// Experts stored one by one are seen as one stack, in order, whatever the order in the file.
TEST(HuggingFace, StacksExperts) {
  Scratch scratch;
  std::string moe = config;
  moe.replace(moe.find("\"llama\""), 7, "\"qwen3_moe\"");
  scratch.write("config.json", moe);
  auto name = [](int e) {
    return "model.layers.3.mlp.experts." + std::to_string(e) + ".up_proj.weight";
  };
  scratch.write(
      "model.safetensors",
      safetensors("{" + entry(name(1), "F32", "[1,2]", 0, 8) + "," +
                      entry(name(0), "F32", "[1,2]", 8, 16) + "," +
                      entry("model.layers.3.mlp.experts.gate_up_proj", "F32", "[2,2,1]", 16, 32) +
                      "}",
                  floats({3, 4, 1, 2, 10, 11, 12, 13})));
  auto model = open(scratch.directory());
  EXPECT_FALSE(bool(model)); // up_proj is there twice: per expert, and fused with the gate
  EXPECT_CONTAINS(llvm::toString(model.takeError()), "both stand for 'blk.3.ffn_up_exps.weight'");

  scratch.write("model.safetensors", safetensors("{" + entry(name(1), "F32", "[1,2]", 0, 8) + "," +
                                                     entry(name(0), "F32", "[1,2]", 8, 16) + "}",
                                                 floats({3, 4, 1, 2})));
  model = open(scratch.directory());
  ASSERT_TRUE(bool(model)) << llvm::toString(model.takeError());
  const TensorInfo *stack = model->find("blk.3.ffn_up_exps.weight");
  ASSERT_TRUE(stack);
  EXPECT_EQ(stack->shape, (std::vector<int64_t>{2, 1, 2}));
  std::vector<uint8_t> bytes;
  ASSERT_FALSE(bool(readTensor(*model, *stack, bytes)));
  EXPECT_EQ(std::string(bytes.begin(), bytes.end()), floats({1, 2, 3, 4}));
  auto mapped = mapTensor(*model, *stack);
  ASSERT_TRUE(bool(mapped));
  EXPECT_EQ(mapped->bytes(), llvm::ArrayRef<uint8_t>(bytes));

  scratch.write(
      "model.safetensors",
      safetensors("{" + entry("model.layers.3.mlp.experts.gate_up_proj", "F32", "[2,2,1]", 0, 16) +
                      "}",
                  floats({10, 11, 12, 13})));
  model = open(scratch.directory());
  ASSERT_TRUE(bool(model)) << llvm::toString(model.takeError());
  ASSERT_FALSE(bool(readTensor(*model, *model->find("blk.3.ffn_up_exps.weight"), bytes)));
  EXPECT_EQ(std::string(bytes.begin(), bytes.end()), floats({11, 13}));
  ASSERT_FALSE(bool(readTensor(*model, *model->find("blk.3.ffn_gate_exps.weight"), bytes)));
  EXPECT_EQ(std::string(bytes.begin(), bytes.end()), floats({10, 12}));

  scratch.write("model.safetensors", safetensors("{" + entry(name(0), "F32", "[1,2]", 0, 8) + "," +
                                                     entry(name(2), "F32", "[1,2]", 8, 16) + "}",
                                                 floats({3, 4, 1, 2})));
  EXPECT_CONTAINS(openError(scratch.directory()), "blk.3.ffn_up_exps.weight: expert 1 is missing");
}

/// A shape costs nothing to write: an empty stack of 2^62 experts must not be unrolled.
TEST(HuggingFace, EmptyStacksAreNotUnrolled) {
  ModelFile model;
  model.container = Container::HuggingFace;
  std::string file = safetensors(
      "{" +
      entry("model.layers.3.mlp.experts.gate_up_proj", "F32", "[4611686018427387904,0,1]", 0, 0) +
      "}");
  std::string message = llvm::toString(parseSafetensors(file, file.size(), "f", 0, model));
  EXPECT_EQ(message, "");
  EXPECT_FALSE(bool(model.indexTensors("qwen3moe")));
  EXPECT_TRUE(model.stacks.empty());
}

TEST(TensorNames, GoBothWays) {
  for (auto [hf, canonical] : std::vector<std::pair<std::string, std::string>>{
           {"model.embed_tokens.weight", "token_embd.weight"},
           {"model.norm.weight", "output_norm.weight"},
           {"lm_head.weight", "output.weight"},
           {"model.layers.17.self_attn.k_proj.bias", "blk.17.attn_k.bias"},
           {"model.layers.0.post_attention_layernorm.weight", "blk.0.ffn_norm.weight"},
           {"model.layers.0.mlp.gate.weight", "blk.0.ffn_gate_inp.weight"}}) {
    EXPECT_EQ(canonicalName(hf, "qwen2"), canonical);
    EXPECT_EQ(huggingFaceName(canonical, "qwen2"), hf);
  }
  EXPECT_EQ(canonicalName("model.layers.2.post_attention_layernorm.weight", "gemma3"),
            "blk.2.post_attention_norm.weight");
  EXPECT_EQ(
      canonicalName("language_model.model.layers.2.pre_feedforward_layernorm.weight", "gemma3"),
      "blk.2.ffn_norm.weight");
  EXPECT_EQ(huggingFaceName("blk.2.post_ffw_norm.weight", "gemma3"),
            "model.layers.2.post_feedforward_layernorm.weight");
  EXPECT_EQ(canonicalName("model.layers.2.mlp.gate_up_proj.weight", "phi3"), "blk.2.ffn_up.weight");
  EXPECT_EQ(huggingFaceName("blk.2.ffn_up.weight", "phi3"),
            "model.layers.2.mlp.gate_up_proj.weight");
  EXPECT_EQ(canonicalName("model.layers.02.mlp.up_proj.weight", "llama"),
            "model.layers.02.mlp.up_proj.weight");
  EXPECT_EQ(huggingFaceName("blk.x.attn_q.weight", "llama"), "");
}

} // namespace
