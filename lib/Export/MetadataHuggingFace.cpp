//===- MetadataHuggingFace.cpp - Hyper-parameters as config.json ----------===//
//
// In the spelling that transformers 4 and 5 both read.
//
//===----------------------------------------------------------------------===//
#include "Plan.h"
#include "quern/Support/Json.h"
#include "llvm/ADT/StringSwitch.h"
#include <cmath>

using namespace llvm;
using namespace quern::import;

namespace quern::exporter {
namespace {

/// The factors of a frequency table, as GGUF has them, against what llama3 scaling would give: the
/// parameters are not in the file, but every published model uses 1, 4 and a power of two.
bool guessLlama3(const RopeConfig &rope, json::Object &scaling) {
  std::vector<double> base;
  double factor = 1;
  for (size_t i = 0; i < rope.frequencies.size(); ++i) {
    base.push_back(1.0f / float(std::pow(rope.theta, double(float(2 * i) / float(rope.dims)))));
    factor = std::max(factor, base[i] / rope.frequencies[i]);
  }
  factor = std::round(factor * 1000) / 1000;
  for (int64_t context = 256; context <= 1 << 20; context *= 2) {
    bool matches = true;
    for (size_t i = 0; i < base.size() && matches; ++i) {
      double wavelength = 2 * 3.14159265358979323846 / base[i], expected = base[i];
      if (wavelength > context)
        expected = base[i] / factor;
      else if (wavelength >= context / 4.0) {
        double smooth = (context / wavelength - 1) / 3;
        expected = (1 - smooth) * base[i] / factor + smooth * base[i];
      }
      matches = std::abs(rope.frequencies[i] / expected - 1) < 1e-5;
    }
    if (matches) {
      scaling = json::Object{{"rope_type", "llama3"},
                             {"factor", factor},
                             {"low_freq_factor", 1.0},
                             {"high_freq_factor", 4.0},
                             {"original_max_position_embeddings", context}};
      return true;
    }
  }
  return false;
}

json::Array factors(const RopeConfig &rope, const std::vector<float> &frequencies) {
  json::Array result;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    float base = 1.0f / float(std::pow(rope.theta, double(float(2 * i) / float(rope.dims))));
    result.push_back(double(base / frequencies[i]));
  }
  return result;
}

Error addRope(const ModelFile &model, const ModelConfig &config, json::Object &out) {
  const RopeConfig &rope = config.rope;
  json::Object scaling;
  out["rope_theta"] = rope.theta;
  if (rope.dims != config.headDim)
    out["partial_rotary_factor"] = double(rope.dims) / double(config.headDim);
  if (rope.scaling == "linear") {
    scaling = json::Object{{"rope_type", "linear"}, {"factor", rope.factor}};
  } else if (rope.scaling == "yarn") {
    scaling = json::Object{{"rope_type", "yarn"},
                           {"factor", rope.factor},
                           {"beta_fast", rope.betaFast},
                           {"beta_slow", rope.betaSlow},
                           {"attention_factor", double(rope.attentionFactor)},
                           {"original_max_position_embeddings", rope.originalContext}};
  } else if (rope.scaling == "longrope") {
    out["original_max_position_embeddings"] = rope.originalContext;
    scaling = json::Object{{"type", "longrope"},
                           {"short_factor", factors(rope, rope.frequencies)},
                           {"long_factor", factors(rope, rope.longFrequencies)},
                           {"attention_factor", double(rope.attentionFactor)}};
  } else if (rope.scaling == "factors" && !guessLlama3(rope, scaling)) {
    return createStringError(
        model.path + ": the factors of 'rope_freqs.weight' are not those of llama3 scaling; "
                     "config.json has no way to express them");
  }
  if (!scaling.empty())
    out["rope_scaling"] = std::move(scaling);
  return Error::success();
}

json::Value tokenId(const ModelFile &model, StringRef key) {
  std::optional<int64_t> id =
      integerOf(model.metadata, ("tokenizer.ggml." + key + "_token_id").str());
  return id ? json::Value(*id) : json::Value(nullptr);
}

/// Two spaces, keys sorted: the same bytes for the same input.
std::string pretty(json::Object object) {
  return formatv("{0:2}\n", json::Value(std::move(object))).str();
}

} // namespace

Error addConfigDocuments(const ModelFile &model, const ModelConfig &config, StringRef dtype,
                         Plan &plan) {
  StringRef architecture = config.architecture;
  // A window makes a llama-shaped model a Mistral in transformers' terms.
  bool mistral = architecture == "llama" && config.slidingWindow > 0;
  auto [type, className] =
      StringSwitch<std::pair<StringRef, StringRef>>(mistral ? "mistral" : architecture)
          .Case("mistral", {"mistral", "MistralForCausalLM"})
          .Case("qwen2", {"qwen2", "Qwen2ForCausalLM"})
          .Case("qwen3", {"qwen3", "Qwen3ForCausalLM"})
          .Case("qwen3moe", {"qwen3_moe", "Qwen3MoeForCausalLM"})
          .Case("gemma3", {"gemma3_text", "Gemma3ForCausalLM"})
          .Case("phi3", {"phi3", "Phi3ForCausalLM"})
          .Default({"llama", "LlamaForCausalLM"});
  bool gemma = architecture == "gemma3";
  json::Object out{{"architectures", json::Array{className}},
                   {"model_type", type},
                   {"hidden_size", config.width},
                   {"num_hidden_layers", config.layers},
                   {"num_attention_heads", config.heads},
                   {"num_key_value_heads", config.kvHeads},
                   {"head_dim", config.headDim},
                   {"vocab_size", config.vocab},
                   {"max_position_embeddings", config.context},
                   {"rms_norm_eps", double(config.normEps)},
                   {"tie_word_embeddings", config.tiedEmbedding},
                   {"attention_bias", config.attentionBias},
                   {"bos_token_id", tokenId(model, "bos")},
                   {"eos_token_id", tokenId(model, "eos")}};
  // Files hold it as f32; 9.9999997e-06 was 1e-05 once.
  out["rms_norm_eps"] = std::strtod(formatv("{0:e6}", config.normEps).str().c_str(), nullptr);
  out[gemma ? "hidden_activation" : "hidden_act"] =
      config.activation == "gelu_tanh" ? "gelu_pytorch_tanh" : config.activation;
  out["torch_dtype"] = StringSwitch<StringRef>(dtype)
                           .Case("BF16", "bfloat16")
                           .Case("F16", "float16")
                           .Default("float32");
  if (config.feedForward > 0)
    out["intermediate_size"] = config.feedForward;
  if (mistral || gemma || architecture == "phi3")
    out["sliding_window"] =
        config.slidingWindow > 0 ? json::Value(config.slidingWindow) : json::Value(nullptr);
  if (gemma) {
    out["rope_local_base_freq"] = config.localRope.theta;
    out["query_pre_attn_scalar"] = 1 / (config.attentionScale * config.attentionScale);
    json::Array layers;
    for (int64_t i = 0; i < config.layers; ++i)
      layers.push_back(config.isLocal(i) ? "sliding_attention" : "full_attention");
    out["layer_types"] = std::move(layers);
    out["sliding_window_pattern"] = config.slidingPattern;
    if (config.finalSoftcap > 0)
      out["final_logit_softcapping"] = config.finalSoftcap;
    if (config.attentionSoftcap > 0)
      out["attn_logit_softcapping"] = config.attentionSoftcap;
  }
  if (config.experts > 0) {
    out["num_experts"] = config.experts;
    out["num_experts_per_tok"] = config.expertsUsed;
    out["moe_intermediate_size"] = config.expertFeedForward;
    out["norm_topk_prob"] = config.normalizeExpertWeights;
    out["decoder_sparse_step"] = 1;
  }
  if (Error e = addRope(model, config, out))
    return e;
  plan.documents.push_back({"config.json", pretty(std::move(out))});
  return Error::success();
}

} // namespace quern::exporter
