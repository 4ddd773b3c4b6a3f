//===- Gemma3.cpp - gemma3 ------------------------------------------------===//
//
// Norms before and after attention and feed-forward; queries and keys normalised head
// by head. Most layers see a sliding window and have a rope of their own (the
// configuration says which).
//
//===----------------------------------------------------------------------===//
#include "DecoderBuilder.h"

using namespace quern::architectures;

static Value layer(DecoderBuilder &b, Value x) {
  DecoderBuilder::Heads heads = b.projectHeads(b.rmsNorm(x, "attn_norm"));
  heads.q = b.headNorm(heads.q, "attn_q_norm");
  heads.k = b.headNorm(heads.k, "attn_k_norm");
  x = b.add(x, b.rmsNorm(b.attend(heads), "post_attention_norm"));
  Value h = b.feedForward(b.rmsNorm(x, "ffn_norm"));
  return b.add(x, b.rmsNorm(h, "post_ffw_norm"));
}

const Architecture quern::architectures::gemma3 = {"gemma3", "Gemma 3, text", layer};
