//===- ModelConfig.h - Hyper-parameters, normalised -------------*- C++ -*-===//
//
// The same few numbers whether they came from GGUF metadata or config.json.
// An architecture (lib/Import/Architectures) reads only this.
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
  int64_t dims = 0;             ///< rotated dimensions of a head
  bool interleaved = false;     ///< pairs (2i, 2i+1) as GGUF llama stores them; else (i, i + dims/2)
  /// Final per-pair frequencies [dims/2] (linear, llama3, yarn and longrope scaling already applied).
  std::vector<float> frequencies;
  float attentionFactor = 1;    ///< multiplies cos and sin (yarn, longrope)
};

struct ModelConfig {
  std::string architecture; ///< `llama`, `qwen2`, `qwen3`, `qwen3moe`, `gemma3`, `phi3`
  std::string name;
  int64_t layers = 0, width = 0, heads = 0, kvHeads = 0, headDim = 0, feedForward = 0;
  int64_t vocab = 0, context = 0;
  double normEps = 1e-5;
  RopeConfig rope;
  RopeConfig localRope;          ///< gemma3: the local layers' rope
  int64_t slidingWindow = 0;     ///< 0: none
  int64_t slidingPattern = 0;    ///< every n-th layer is global (gemma3: 6)
  double attentionScale = 0;     ///< multiplies q.k
  double embeddingScale = 1;
  double finalSoftcap = 0, attentionSoftcap = 0;
  bool tiedEmbedding = false;
  bool attentionBias = false;
  bool qkNorm = false;
  bool normUnitOffset = false;   ///< stored gain g means 1 + g
  std::string activation;        ///< `silu`, `gelu_tanh`, `gelu`
  int64_t experts = 0, expertsUsed = 0, expertFeedForward = 0;
  bool normalizeExpertWeights = false;
};

/// Reads and checks the hyper-parameters of an opened model.
llvm::Expected<ModelConfig> readConfig(const ModelFile &model);

} // namespace quern::import

#endif // QUERN_IMPORT_MODELCONFIG_H
