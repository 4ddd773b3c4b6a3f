//===- Qwen2.cpp - qwen2 --------------------------------------------------===//
//
// Llama's layer; queries, keys and values have biases.
//
//===----------------------------------------------------------------------===//
#include "DecoderBuilder.h"

using namespace quern::architectures;

static Value layer(DecoderBuilder &b, Value x) {
  x = b.add(x, b.attend(b.projectHeads(b.rmsNorm(x, "attn_norm"))));
  return b.add(x, b.feedForward(b.rmsNorm(x, "ffn_norm")));
}

const Architecture quern::architectures::qwen2 = {"qwen2", "Qwen 2 and 2.5", layer};
