//===- ConfigGGUF.cpp - Hyper-parameters from GGUF metadata ---------------===//
//
// Keys are `<architecture>.<key>`; rope factors may be tensors.
//
//===----------------------------------------------------------------------===//
#include "Common.h"
#include "Config.h"

using namespace llvm;

namespace quern::import {

/// An F32 vector such as rope_freqs.weight; empty if the model has none.
static Expected<std::vector<double>> readVector(const ModelFile &model, StringRef name) {
  const TensorInfo *info = model.find(name);
  if (!info)
    return std::vector<double>();
  if (info->fileType != "F32" || info->elements() > maxHeadDim)
    return fileError(model.path, "tensor '" + name + "' must be a short vector of F32, found " +
                                     info->fileType + " of " + Twine(info->elements()));
  std::vector<uint8_t> bytes;
  if (Error e = readTensor(model, *info, bytes))
    return std::move(e);
  std::vector<double> values;
  for (size_t i = 0; i + 4 <= bytes.size(); i += 4)
    values.push_back(bit_cast<float>(support::endian::read32le(&bytes[i])));
  return values;
}

static Error readScaling(const ModelFile &model, Fields &fields, RopeScaling &scaling) {
  auto factors = [&](StringRef name, std::vector<double> &out) -> Error {
    Expected<std::vector<double>> values = readVector(model, name);
    if (!values)
      return values.takeError();
    out = std::move(*values);
    return Error::success();
  };
  if (Error e = factors("rope_freqs.weight", scaling.divisors))
    return e;
  if (Error e = factors("rope_factors_long.weight", scaling.longFactors))
    return e;
  if (Error e = factors("rope_factors_short.weight", scaling.shortFactors))
    return e;
  double factor = 0;
  if ((fields.number("rope.scaling.factor", factor) ||
       fields.number("rope.scale_linear", factor)) &&
      factor != 0)
    scaling.factor = factor;
  // A factor without a type has always meant linear scaling.
  scaling.type = scaling.factor && *scaling.factor != 1 ? "linear" : "default";
  fields.string("rope.scaling.type", scaling.type);
  if (scaling.type == "linear" && !scaling.factor)
    scaling.type = "default";
  // Writers of longrope models give the factors, not always the type.
  if (!scaling.longFactors.empty() || !scaling.shortFactors.empty())
    scaling.type = "longrope";
  fields.integer("rope.scaling.original_context_length", scaling.originalContext, 0, maxContext);
  std::optional<double> attention;
  fields.number("rope.scaling.attn_factor", attention);
  fields.number("rope.scaling.yarn_beta_fast", scaling.betaFast);
  fields.number("rope.scaling.yarn_beta_slow", scaling.betaSlow);
  if (attention && scaling.type == "yarn") {
    // Here the key multiplies YaRN's own factor instead of replacing it.
    double own = scaling.factor && *scaling.factor > 1 ? 0.1 * std::log(*scaling.factor) + 1 : 1;
    scaling.attentionFactor = *attention * own;
  } else if (attention) {
    scaling.attentionFactor = attention;
  }
  return Error::success();
}

Expected<ModelConfig> readConfigGGUF(const ModelFile &model) {
  ModelConfig config;
  std::string problem;
  Fields general(model.metadata, "general.", model.path, problem);
  if (!general.has("architecture"))
    return fileError(model.path, "the metadata key 'general.architecture' is missing");
  general.string("architecture", config.architecture);
  general.string("name", config.name);
  if (!problem.empty())
    return createStringError(problem);
  if (Error e = checkArchitecture(model.path, config.architecture))
    return std::move(e);
  StringRef architecture = config.architecture;
  bool gemma = architecture == "gemma3";

  Fields fields(model.metadata, config.architecture + ".", model.path, problem);
  fields.required("block_count", config.layers, 1, maxLayers);
  fields.required("embedding_length", config.width, 1, maxWidth);
  fields.required("attention.head_count", config.heads, 1, maxHeads);
  config.kvHeads = config.heads;
  fields.integer("attention.head_count_kv", config.kvHeads, 1, maxHeads);
  config.headDim = config.heads > 0 ? config.width / config.heads : 0;
  bool explicitHead = fields.integer("attention.key_length", config.headDim, 1, maxHeadDim);
  if (!explicitHead && config.heads > 0 && config.width % config.heads != 0)
    fields.fail("attention.head_count", "does not divide the embedding length");
  int64_t valueDim = config.headDim;
  fields.integer("attention.value_length", valueDim, 1, maxHeadDim);
  if (valueDim != config.headDim)
    fields.fail("attention.value_length",
                "differs from the length of keys, which is not supported");
  fields.required("context_length", config.context, 1, maxContext);
  fields.number("attention.layer_norm_rms_epsilon", config.normEps);
  if (architecture == "qwen3moe") {
    fields.integer("feed_forward_length", config.feedForward, 1, maxWidth);
    fields.required("expert_count", config.experts, 1, maxExperts);
    fields.required("expert_used_count", config.expertsUsed, 1, maxExperts);
    fields.required("expert_feed_forward_length", config.expertFeedForward, 1, maxWidth);
    config.normalizeExpertWeights = true; // the key is younger than the architecture
    fields.boolean("expert_weights_norm", config.normalizeExpertWeights);
  } else {
    fields.required("feed_forward_length", config.feedForward, 1, maxWidth);
    int64_t experts = 0;
    if (fields.integer("expert_count", experts, 0, maxExperts) && experts > 0)
      fields.fail("expert_count", "mixtures of experts are supported in qwen3moe only");
  }
  if (const json::Array *tokens = model.metadata.getArray("tokenizer.ggml.tokens"))
    config.vocab = tokens->size();
  fields.integer("vocab_size", config.vocab, 1, maxVocab);
  fields.integer("attention.sliding_window", config.slidingWindow, 0, maxContext);
  fields.number("attn_logit_softcapping", config.attentionSoftcap);
  fields.number("final_logit_softcapping", config.finalSoftcap);

  RopeScaling scaling;
  double theta = gemma ? 1000000 : 10000;
  fields.number("rope.freq_base", theta);
  int64_t dims = config.headDim;
  fields.integer("rope.dimension_count", dims, 2, maxHeadDim);
  if (Error e = readScaling(model, fields, scaling))
    return std::move(e);

  config.attentionScale = 1 / std::sqrt(double(std::max<int64_t>(config.headDim, 1)));
  config.activation = gemma ? "gelu_tanh" : "silu";
  if (gemma) {
    config.slidingPattern = 6;
    if (const json::Value *pattern = fields.get("attention.sliding_window_pattern")) {
      std::vector<bool> local;
      if (const json::Array *flags = pattern->getAsArray()) {
        for (const json::Value &flag : *flags)
          local.push_back(flag.getAsBoolean().value_or(integerOf(&flag).value_or(0) != 0));
        if (std::optional<int64_t> n = patternOf(local))
          config.slidingPattern = *n;
        else
          fields.fail("attention.sliding_window_pattern", "is not every n-th layer");
      } else {
        fields.integer("attention.sliding_window_pattern", config.slidingPattern, 0, maxLayers);
      }
    }
    // The 27B model alone scales by its nominal head width; its files do not say so.
    if (config.layers == 62 && config.heads > 0)
      config.attentionScale = 1 / std::sqrt(double(config.width) / double(config.heads));
    config.embeddingScale = std::sqrt(double(config.width));
    double localTheta = 10000;
    fields.number("rope.freq_base_swa", localTheta);
    if (!fields.failed()) {
      Expected<RopeConfig> local = resolveRope(localTheta, dims, RopeScaling(), config.context);
      if (!local)
        return fileError(model.path, toString(local.takeError()));
      config.localRope = std::move(*local);
    }
  }
  fields.number("attention.scale", config.attentionScale);
  if (!problem.empty())
    return createStringError(problem);

  Expected<RopeConfig> rope = resolveRope(theta, dims, scaling, config.context);
  if (!rope)
    return fileError(model.path, toString(rope.takeError()));
  config.rope = std::move(*rope);
  config.rope.interleaved = architecture == "llama";
  config.qkNorm = gemma || architecture.starts_with("qwen3");
  config.attentionBias = architecture == "qwen2" || model.find("blk.0.attn_q.bias");
  config.tiedEmbedding = !model.find("output.weight");
  return config;
}

} // namespace quern::import
