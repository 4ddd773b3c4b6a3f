//===- Llama.cpp - llama, and Mistral by the same name --------------------===//
//
// Norm, attention, add; norm, gated feed-forward, add.
//
//===----------------------------------------------------------------------===//
#include "DecoderBuilder.h"

using namespace quern::architectures;

static Value layer(DecoderBuilder &b, Value x) {
  x = b.add(x, b.attend(b.projectHeads(b.rmsNorm(x, "attn_norm"))));
  return b.add(x, b.feedForward(b.rmsNorm(x, "ffn_norm")));
}

const Architecture quern::architectures::llama = {
    "llama", "Llama 1 to 3, Mistral, SmolLM and others of that shape", layer};
