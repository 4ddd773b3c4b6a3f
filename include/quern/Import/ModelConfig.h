//===- ModelConfig.h - Hyper-parameters, normalised -------------*- C++ -*-===//
//
// The same few numbers whether they came from GGUF metadata or config.json.
// An architecture (lib/Architectures) reads only this.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_IMPORT_MODELCONFIG_H
#define QUERN_IMPORT_MODELCONFIG_H

#include "quern/Import/ModelFile.h"
#include <cstdint>
#include <string>
#include <vector>

namespace quern::import {

struct RopeConfig {
  double theta = 10000;
  int64_t dims = 0;         ///< rotated dimensions of a head (the first ones)
  bool interleaved = false; ///< pairs (2i, 2i+1) as GGUF llama stores them; else (i, i + dims/2)
  /// Final per-pair frequencies [dims/2] (linear, llama3, yarn and longrope scaling already
  /// applied).
  std::vector<float> frequencies;
  float attentionFactor = 1; ///< multiplies cos and sin (yarn, longrope)
  /// longrope: the frequencies for contexts longer than `originalContext`; else empty.
  std::vector<float> longFrequencies;
  int64_t originalContext = 0; ///< of longrope and yarn
  /// What was applied, for writers: `default`, `linear`, `llama3`, `yarn`, `longrope`, or `factors`
  /// (GGUF's table without a name).
  std::string scaling = "default";
  double factor = 1;
  double betaFast = 32, betaSlow = 1; ///< yarn: the turns between which it blends
  bool truncate = true;               ///< yarn: whole dimensions bound the ramp

  /// The frequencies of a program whose context is `context` tokens.
  const std::vector<float> &forContext(int64_t context) const {
    return !longFrequencies.empty() && context > originalContext ? longFrequencies : frequencies;
  }
};

struct ModelConfig {
  std::string architecture; ///< `llama`, `qwen2`, `qwen3`, `qwen3moe`, `gemma3`, `phi3`
  std::string name;
  int64_t layers = 0, width = 0, heads = 0, kvHeads = 0, headDim = 0, feedForward = 0;
  int64_t vocab = 0, context = 0;
  double normEps = 1e-5;
  RopeConfig rope;
  RopeConfig localRope; ///< gemma3: the local layers' rope
  /// A token sees itself and slidingWindow - 1 tokens before it in the layers that slide; 0: all
  /// see all.
  int64_t slidingWindow = 0;
  /// Layer i sees everything if (i + 1) % slidingPattern == 0 (gemma3: 6); 0: every layer slides.
  int64_t slidingPattern = 0;
  double attentionScale = 0; ///< multiplies q.k
  double embeddingScale = 1;
  double finalSoftcap = 0, attentionSoftcap = 0; ///< 0: none
  bool tiedEmbedding = false;
  bool attentionBias = false; ///< q, k and v have biases
  bool qkNorm = false;
  bool normUnitOffset = false; ///< stored gain g means 1 + g
  std::string activation;      ///< `silu`, `gelu_tanh`, `gelu`
  int64_t experts = 0, expertsUsed = 0, expertFeedForward = 0;
  bool normalizeExpertWeights = false;

  /// Whether layer `i` sees only the sliding window.
  bool isLocal(int64_t layer) const {
    return slidingWindow > 0 && (slidingPattern == 0 || (layer + 1) % slidingPattern != 0);
  }
};

/// The architectures readConfig knows, by their names here.
llvm::ArrayRef<llvm::StringLiteral> knownArchitectures();

/// Reads and checks the hyper-parameters of an opened model. An unknown architecture is an error
/// that lists the known ones.
llvm::Expected<ModelConfig> readConfig(const ModelFile &model);

} // namespace quern::import

#endif // QUERN_IMPORT_MODELCONFIG_H
