//===- Config.cpp - Hyper-parameters, normalised --------------------------===//
//
// Picks the reader for the container; checks what holds for every model.
//
//===----------------------------------------------------------------------===//
#include "Config.h"
#include "Common.h"
#include "llvm/ADT/StringExtras.h"

using namespace llvm;

namespace quern::import {

static constexpr StringLiteral known[] = {"llama", "qwen2", "qwen3", "qwen3moe", "gemma3", "phi3"};

ArrayRef<StringLiteral> knownArchitectures() { return known; }

Error checkArchitecture(StringRef path, StringRef name) {
  if (is_contained(known, name))
    return Error::success();
  return fileError(path, "unknown architecture '" + name +
                             "'; known: " + join(knownArchitectures(), ", "));
}

std::optional<int64_t> patternOf(const std::vector<bool> &local) {
  auto global = llvm::find(local, false);
  int64_t n = global == local.end() ? 0 : global - local.begin() + 1;
  for (size_t i = 0; i < local.size(); ++i)
    if (local[i] != (n == 0 || int64_t(i + 1) % n != 0))
      return std::nullopt;
  return n;
}

/// The relations between the numbers that every consumer relies on.
static Error check(const ModelFile &model, ModelConfig &config) {
  auto error = [&](const Twine &message) { return fileError(model.path, message); };
  if (config.heads % config.kvHeads != 0)
    return error("expected the " + Twine(config.heads) + " heads to be a multiple of the " +
                 Twine(config.kvHeads) + " key-value heads");
  if (config.rope.dims > config.headDim)
    return error("rope rotates " + Twine(config.rope.dims) + " dimensions of heads that have " +
                 Twine(config.headDim));
  if (!(config.normEps > 0))
    return error("expected a positive epsilon for the norms, found " +
                 std::to_string(config.normEps));
  if (!(config.attentionScale > 0) || !std::isfinite(config.attentionScale))
    return error("expected a positive attention scale, found " +
                 std::to_string(config.attentionScale));
  if (config.attentionSoftcap < 0 || config.finalSoftcap < 0)
    return error("expected soft caps that are not negative");
  if (config.expertsUsed > config.experts)
    return error("uses " + Twine(config.expertsUsed) + " experts of " + Twine(config.experts));
  // The embedding's own rows are what the logits have, whatever the tokenizer says.
  if (const TensorInfo *embedding = model.find("token_embd.weight");
      embedding && embedding->shape.size() == 2) {
    if (embedding->shape[1] != config.width)
      return error("tensor '" + embedding->name + "' has rows of " + Twine(embedding->shape[1]) +
                   " elements; the model's width is " + Twine(config.width));
    config.vocab = embedding->shape[0];
  }
  if (config.vocab <= 0)
    return error("the size of the vocabulary is not given");
  if (config.slidingWindow >= config.context && config.slidingPattern == 0)
    config.slidingWindow = 0; // nothing is ever outside of it
  return Error::success();
}

Expected<ModelConfig> readConfig(const ModelFile &model) {
  Expected<ModelConfig> config =
      model.container == Container::GGUF ? readConfigGGUF(model) : readConfigHuggingFace(model);
  if (!config)
    return config.takeError();
  if (Error e = check(model, *config))
    return std::move(e);
  return config;
}

} // namespace quern::import
