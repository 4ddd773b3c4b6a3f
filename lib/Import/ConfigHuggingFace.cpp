//===- ConfigHuggingFace.cpp - Hyper-parameters from config.json ----------===//
//
// As transformers 4 and 5 write them. Where a key is absent, the default is the
// one of the model's own configuration class.
//
//===----------------------------------------------------------------------===//
#include "Common.h"
#include "Config.h"
#include "quern/Import/Parsers.h"
#include "llvm/ADT/StringSwitch.h"

using namespace llvm;

namespace quern::import {

std::string architectureOf(const json::Object &config) {
  StringRef type = config.getString("model_type").value_or("");
  return StringSwitch<std::string>(type)
      .Case("mistral", "llama")
      .Case("qwen3_moe", "qwen3moe")
      .Cases({"gemma3", "gemma3_text"}, "gemma3")
      .Default(type.str());
}

Error refuseQuantized(const json::Object &config, StringRef path) {
  for (const json::Object *object : {&config, config.getObject("text_config")}) {
    if (!object)
      continue;
    for (StringRef key : {"quantization_config", "compression_config"}) {
      const json::Value *value = object->get(key);
      if (!value || value->kind() == json::Value::Null)
        continue;
      std::string how = "quantized, and the file does not say how";
      if (const json::Object *details = value->getAsObject())
        if (auto method = details->getString("quant_method"))
          how = "quantized with '" + method->str() + "'";
      return fileError(path,
                       "the weights are " + how + " ('" + key +
                           "'); such checkpoints are not supported, import the original model");
    }
  }
  return Error::success();
}

/// transformers' activation names, those that decoders use.
static std::string activationOf(StringRef name) {
  return StringSwitch<std::string>(name)
      .Cases({"silu", "swish"}, "silu")
      .Cases({"gelu_pytorch_tanh", "gelu_new", "gelu_fast"}, "gelu_tanh")
      .Case("gelu", "gelu")
      .Default("");
}

/// What one set of rope parameters says: flat in `rope_parameters` (5), or in `rope_scaling` with
/// the base and the original context outside (4).
static Expected<RopeConfig> readRope(const json::Object *parameters, Fields &outer,
                                     const std::string &path, std::string &problem,
                                     StringRef architecture, double theta,
                                     const ModelConfig &config) {
  static const json::Object none;
  Fields fields(parameters ? *parameters : none, "", path + ": rope parameters", problem);
  RopeScaling scaling;
  if (!fields.string("rope_type", scaling.type))
    fields.string("type", scaling.type);
  // Phi-3's early files use other words for its one method.
  if (architecture == "phi3" && (scaling.type == "su" || scaling.type == "yarn"))
    scaling.type = "longrope";
  fields.number("rope_theta", theta);
  double partial = 1;
  if (!fields.number("partial_rotary_factor", partial))
    outer.number("partial_rotary_factor", partial);
  if (!(partial > 0 && partial <= 1))
    outer.fail("partial_rotary_factor", "expected a number above 0 and at most 1");
  fields.number("factor", scaling.factor);
  fields.number("low_freq_factor", scaling.lowFrequency);
  fields.number("high_freq_factor", scaling.highFrequency);
  fields.number("beta_fast", scaling.betaFast);
  fields.number("beta_slow", scaling.betaSlow);
  fields.number("attention_factor", scaling.attentionFactor);
  fields.number("mscale", scaling.mscale);
  fields.number("mscale_all_dim", scaling.mscaleAllDims);
  fields.boolean("truncate", scaling.truncate);
  fields.numbers("long_factor", scaling.longFactors);
  fields.numbers("short_factor", scaling.shortFactors);
  if (!outer.integer("original_max_position_embeddings", scaling.originalContext, 1, maxContext))
    fields.integer("original_max_position_embeddings", scaling.originalContext, 1, maxContext);
  if (!problem.empty())
    return createStringError(problem);
  Expected<RopeConfig> rope =
      resolveRope(theta, int64_t(config.headDim * partial), scaling, config.context);
  if (!rope)
    return fileError(path, toString(rope.takeError()));
  return rope;
}

/// Which layers slide, from `layer_types` or the older keys.
static void readWindow(Fields &fields, StringRef type, ModelConfig &config) {
  bool gemma = config.architecture == "gemma3";
  fields.integer("sliding_window", config.slidingWindow, 0, maxContext);
  bool used = true; // qwen's class ignores the window unless told to use it
  if (StringRef(config.architecture).starts_with("qwen")) {
    used = false;
    fields.boolean("use_sliding_window", used);
  }
  if (config.architecture == "llama" && type != "mistral")
    used = false;
  if (!used) {
    config.slidingWindow = 0;
    return;
  }
  if (gemma)
    config.slidingPattern = 6;
  fields.integer("_sliding_window_pattern", config.slidingPattern, 0, maxLayers);
  fields.integer("sliding_window_pattern", config.slidingPattern, 0, maxLayers);
  std::vector<bool> local;
  int64_t dense = 28; // layers before this one see everything (qwen's class default)
  if (const json::Value *types = fields.get("layer_types")) {
    const json::Array *array = types->getAsArray();
    if (!array || int64_t(array->size()) != config.layers) {
      fields.fail("layer_types",
                  "expected a list of " + std::to_string(config.layers) + " layer types");
      return;
    }
    for (const json::Value &item : *array) {
      StringRef name = item.getAsString().value_or("");
      if (name != "sliding_attention" && name != "full_attention") {
        fields.fail("layer_types", "unknown layer type '" + name.str() +
                                       "'; known: full_attention, sliding_attention");
        return;
      }
      local.push_back(name == "sliding_attention");
    }
  } else if (config.architecture == "qwen2" || config.architecture == "qwen3") {
    fields.integer("max_window_layers", dense, 0, maxLayers);
    for (int64_t i = 0; i < config.layers; ++i)
      local.push_back(i >= dense);
  } else {
    return;
  }
  if (llvm::none_of(local, [](bool l) { return l; }))
    config.slidingWindow = 0;
  else if (std::optional<int64_t> n = patternOf(local))
    config.slidingPattern = *n;
  else
    fields.fail("layer_types",
                "the full-attention layers are not every n-th one, which is not supported");
}

static void readExperts(Fields &fields, ModelConfig &config) {
  if (!fields.integer("num_experts", config.experts, 1, maxExperts))
    fields.required("num_local_experts", config.experts, 1, maxExperts);
  fields.required("num_experts_per_tok", config.expertsUsed, 1, maxExperts);
  fields.required("moe_intermediate_size", config.expertFeedForward, 1, maxWidth);
  fields.boolean("norm_topk_prob", config.normalizeExpertWeights);
  int64_t step = 1;
  fields.integer("decoder_sparse_step", step, 1, maxLayers);
  if (step != 1)
    fields.fail("decoder_sparse_step", "layers without experts are not supported");
  if (const json::Value *dense = fields.get("mlp_only_layers");
      dense && dense->getAsArray() && !dense->getAsArray()->empty())
    fields.fail("mlp_only_layers", "layers without experts are not supported");
}

Expected<ModelConfig> readConfigHuggingFace(const ModelFile &model) {
  const json::Object *root = model.metadata.getObject("config");
  if (!root)
    return fileError(model.path, "there is no config.json: the architecture is not known");
  std::string path = model.path + "/config.json", problem;
  if (Error e = refuseQuantized(*root, path))
    return std::move(e);
  StringRef type = root->getString("model_type").value_or("");
  if (type.empty())
    return fileError(path, "'model_type' is missing");
  ModelConfig config;
  config.architecture = architectureOf(*root);
  if (Error e = checkArchitecture(path, config.architecture))
    return std::move(e);
  // Multimodal files keep the language model's numbers one level deeper.
  const json::Object *object = root->getObject("text_config");
  Fields fields(object ? *object : *root, "", path, problem);
  Fields outside(*root, "", path, problem);
  StringRef architecture = config.architecture;
  bool gemma = architecture == "gemma3", qwen3 = architecture.starts_with("qwen3");

  outside.string("_name_or_path", config.name);
  fields.required("num_hidden_layers", config.layers, 1, maxLayers);
  fields.required("hidden_size", config.width, 1, maxWidth);
  fields.required("num_attention_heads", config.heads, 1, maxHeads);
  config.kvHeads = config.heads;
  fields.integer("num_key_value_heads", config.kvHeads, 1, maxHeads);
  if (!fields.integer("head_dim", config.headDim, 1, maxHeadDim)) {
    if (gemma)
      config.headDim = 256;
    else if (architecture == "qwen3")
      config.headDim = 128;
    else if (config.heads > 0 && config.width % config.heads == 0)
      config.headDim = config.width / config.heads;
    else
      fields.fail("num_attention_heads", "does not divide 'hidden_size'");
  }
  fields.required("vocab_size", config.vocab, 1, maxVocab);
  fields.required("max_position_embeddings", config.context, 1, maxContext);
  config.normEps = architecture == "phi3" ? 1e-5 : 1e-6;
  fields.number("rms_norm_eps", config.normEps);
  if (architecture == "qwen3moe") {
    fields.integer("intermediate_size", config.feedForward, 1, maxWidth);
    readExperts(fields, config);
  } else {
    fields.required("intermediate_size", config.feedForward, 1, maxWidth);
  }

  std::string activation = gemma ? "gelu_pytorch_tanh" : "silu";
  if (!fields.string("hidden_activation", activation))
    fields.string("hidden_act", activation);
  config.activation = activationOf(activation);
  if (config.activation.empty())
    fields.fail("hidden_act", "unknown activation '" + activation + "'");
  bool biased = false;
  fields.boolean("mlp_bias", biased);
  if (biased)
    fields.fail("mlp_bias", "biases in the feed-forward layers are not supported");
  config.attentionBias = architecture == "qwen2";
  fields.boolean("attention_bias", config.attentionBias);
  config.qkNorm = gemma || qwen3;
  config.normUnitOffset = gemma;
  config.attentionScale = 1 / std::sqrt(double(std::max<int64_t>(config.headDim, 1)));
  if (gemma) {
    double scalar = 256;
    fields.number("query_pre_attn_scalar", scalar);
    config.attentionScale = 1 / std::sqrt(scalar);
    config.embeddingScale = std::sqrt(double(config.width));
    fields.number("final_logit_softcapping", config.finalSoftcap);
    fields.number("attn_logit_softcapping", config.attentionSoftcap);
    bool bidirectional = false;
    fields.boolean("use_bidirectional_attention", bidirectional);
    if (bidirectional)
      fields.fail("use_bidirectional_attention", "attention to later tokens is not supported");
    config.slidingWindow = 4096;
  } else if (type == "mistral") {
    config.slidingWindow =
        root->get("sliding_window") ? 0 : 4096; // null means none, absence the class's default
  }
  readWindow(fields, type, config);

  // With the flag absent the presence of an output matrix decides, as their loaders would warn
  // about.
  bool untied = model.find("output.weight");
  config.tiedEmbedding = gemma || !untied;
  if (!fields.boolean("tie_word_embeddings", config.tiedEmbedding))
    outside.boolean("tie_word_embeddings", config.tiedEmbedding);

  const json::Value *nested = fields.get("rope_parameters");
  if (!nested)
    nested = fields.get("rope_scaling");
  const json::Object *rope = nested ? nested->getAsObject() : nullptr;
  if (nested && !rope)
    fields.fail("rope_parameters", "expected an object");
  double theta = gemma ? 1000000 : 10000;
  fields.number("rope_theta", theta);
  if (!problem.empty())
    return createStringError(problem);

  const json::Object *globalRope = rope;
  if (rope && (rope->get("full_attention") || rope->get("sliding_attention")))
    globalRope = rope->getObject("full_attention");
  Expected<RopeConfig> resolved =
      readRope(globalRope, fields, path, problem, architecture, theta, config);
  if (!resolved)
    return resolved.takeError();
  config.rope = std::move(*resolved);
  if (gemma) {
    double localTheta = 10000;
    fields.number("rope_local_base_freq", localTheta);
    const json::Object *localRope = rope ? rope->getObject("sliding_attention") : nullptr;
    resolved = readRope(localRope, fields, path, problem, architecture, localTheta, config);
    if (!resolved)
      return resolved.takeError();
    config.localRope = std::move(*resolved);
  }
  return config;
}

} // namespace quern::import
