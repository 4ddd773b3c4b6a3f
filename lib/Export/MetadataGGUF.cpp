//===- MetadataGGUF.cpp - Hyper-parameters as GGUF keys -------------------===//
//
// Writes what ConfigGGUF.cpp reads (and llama.cpp with it).
//
//===----------------------------------------------------------------------===//
#include "Plan.h"
#include "llvm/Support/Path.h"
#include <cmath>

using namespace llvm;
using namespace quern::import;

namespace quern::exporter {
namespace {

class Keys {
public:
  Keys(Plan &plan, std::string prefix) : plan(plan), prefix(std::move(prefix)) {}
  void text(StringRef key, StringRef value) { add(key, MetadataType::String, value.str()); }
  void u32(StringRef key, int64_t value) { add(key, MetadataType::UInt32, value); }
  void f32(StringRef key, double value) { add(key, MetadataType::Float32, double(float(value))); }
  void flag(StringRef key, bool value) { add(key, MetadataType::Bool, value); }

private:
  void add(StringRef key, MetadataType type, json::Value value) {
    plan.keys.push_back({prefix + key.str(), type, MetadataType::String, std::move(value)});
  }
  Plan &plan;
  std::string prefix;
};

/// theta^(-2i/dims) over the frequency in use: what GGUF calls rope factors.
std::vector<float> ropeFactors(const RopeConfig &rope, const std::vector<float> &frequencies) {
  std::vector<float> factors;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    float base = 1.0f / float(std::pow(rope.theta, double(float(2 * i) / float(rope.dims))));
    factors.push_back(base / frequencies[i]);
  }
  return factors;
}

Error addFactors(Plan &plan, const std::string &name, std::vector<float> values) {
  OutTensor tensor;
  tensor.name = name;
  tensor.shape = {int64_t(values.size())};
  tensor.values = std::move(values);
  Expected<StoredType> type = storedType("F32", Container::GGUF);
  if (!type)
    return type.takeError();
  tensor.type = *type;
  if (Error e = finish(tensor))
    return e;
  plan.tensors.push_back(std::move(tensor));
  return Error::success();
}

Error addRope(const ModelFile &model, const ModelConfig &config, Keys &keys, Plan &plan) {
  const RopeConfig &rope = config.rope;
  keys.u32("rope.dimension_count", rope.dims);
  keys.f32("rope.freq_base", rope.theta);
  if (rope.scaling == "linear") {
    keys.text("rope.scaling.type", "linear");
    keys.f32("rope.scaling.factor", rope.factor);
  } else if (rope.scaling == "yarn") {
    keys.text("rope.scaling.type", "yarn");
    keys.f32("rope.scaling.factor", rope.factor);
    keys.u32("rope.scaling.original_context_length", rope.originalContext);
    double own = rope.factor > 1 ? 0.1 * std::log(rope.factor) + 1 : 1;
    if (std::abs(rope.attentionFactor / own - 1) > 1e-6)
      keys.f32("rope.scaling.attn_factor", rope.attentionFactor / own);
    if (rope.betaFast != 32)
      keys.f32("rope.scaling.yarn_beta_fast", rope.betaFast);
    if (rope.betaSlow != 1)
      keys.f32("rope.scaling.yarn_beta_slow", rope.betaSlow);
    if (!rope.truncate)
      return createStringError(
          model.path + ": config.json: yarn scaling with 'truncate': false has no GGUF key");
  } else if (rope.scaling == "longrope") {
    keys.text("rope.scaling.type", "longrope");
    keys.f32("rope.scaling.factor", rope.factor);
    keys.u32("rope.scaling.original_context_length", rope.originalContext);
    keys.f32("rope.scaling.attn_factor", rope.attentionFactor);
    if (Error e =
            addFactors(plan, "rope_factors_short.weight", ropeFactors(rope, rope.frequencies)))
      return e;
    return addFactors(plan, "rope_factors_long.weight", ropeFactors(rope, rope.longFrequencies));
  } else if (rope.scaling == "llama3") {
    return addFactors(plan, "rope_freqs.weight", ropeFactors(rope, rope.frequencies));
  }
  return Error::success();
}

} // namespace

Error addGGUFMetadata(const ModelFile &model, const ModelConfig &config, Plan &plan) {
  Keys general(plan, "general.");
  general.text("architecture", config.architecture);
  general.text("type", "model");
  std::string name = config.name;
  if (name.empty()) {
    StringRef path = StringRef(model.path).rtrim('/');
    name = sys::path::filename(path).str();
  }
  general.text("name", name);
  general.u32("quantization_version", 2);
  Keys keys(plan, config.architecture + ".");
  keys.u32("block_count", config.layers);
  keys.u32("context_length", config.context);
  keys.u32("embedding_length", config.width);
  if (config.feedForward > 0)
    keys.u32("feed_forward_length", config.feedForward);
  keys.u32("attention.head_count", config.heads);
  keys.u32("attention.head_count_kv", config.kvHeads);
  keys.u32("attention.key_length", config.headDim);
  keys.u32("attention.value_length", config.headDim);
  keys.f32("attention.layer_norm_rms_epsilon", config.normEps);
  keys.u32("vocab_size", config.vocab);
  if (std::abs(config.attentionScale * std::sqrt(double(config.headDim)) - 1) > 1e-6)
    keys.f32("attention.scale", config.attentionScale);
  if (config.slidingWindow > 0)
    keys.u32("attention.sliding_window", config.slidingWindow);
  if (config.slidingWindow > 0 && config.architecture == "gemma3" && config.slidingPattern != 6)
    keys.u32("attention.sliding_window_pattern", config.slidingPattern);
  if (config.architecture == "gemma3" && config.localRope.theta != 10000)
    keys.f32("rope.freq_base_swa", config.localRope.theta);
  if (config.attentionSoftcap > 0)
    keys.f32("attn_logit_softcapping", config.attentionSoftcap);
  if (config.finalSoftcap > 0)
    keys.f32("final_logit_softcapping", config.finalSoftcap);
  if (config.experts > 0) {
    keys.u32("expert_count", config.experts);
    keys.u32("expert_used_count", config.expertsUsed);
    keys.u32("expert_feed_forward_length", config.expertFeedForward);
    if (!config.normalizeExpertWeights)
      keys.flag("expert_weights_norm", false);
  }
  return addRope(model, config, keys, plan);
}

} // namespace quern::exporter
