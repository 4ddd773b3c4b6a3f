//===- Qwen3.cpp - qwen3 and qwen3moe -------------------------------------===//
//
// Llama's layer; queries and keys are normalised head by head. In qwen3moe a router
// picks the feed-forward of each token from many.
//
//===----------------------------------------------------------------------===//
#include "DecoderBuilder.h"

using namespace quern::architectures;

static Value attention(DecoderBuilder &b, Value x) {
  DecoderBuilder::Heads heads = b.projectHeads(b.rmsNorm(x, "attn_norm"));
  heads.q = b.headNorm(heads.q, "attn_q_norm");
  heads.k = b.headNorm(heads.k, "attn_k_norm");
  return b.add(x, b.attend(heads));
}

static Value denseLayer(DecoderBuilder &b, Value x) {
  x = attention(b, x);
  return b.add(x, b.feedForward(b.rmsNorm(x, "ffn_norm")));
}

static Value expertLayer(DecoderBuilder &b, Value x) {
  x = attention(b, x);
  Value h = b.rmsNorm(x, "ffn_norm");
  int64_t inner = b.config.expertFeedForward;
  auto [ids, weights] = b.route(b.linear(h, "ffn_gate_inp", b.config.experts));
  Value gated = b.gated(b.expertLinear(h, "ffn_gate_exps", inner, ids),
                        b.expertLinear(h, "ffn_up_exps", inner, ids));
  Value experts = b.expertLinear(gated, "ffn_down_exps", b.config.width, ids);
  return b.add(x, b.combineExperts(experts, weights));
}

const Architecture quern::architectures::qwen3 = {"qwen3", "Qwen 3, dense", denseLayer};
const Architecture quern::architectures::qwen3moe = {"qwen3moe", "Qwen 3, mixture of experts",
                                                     expertLayer};
