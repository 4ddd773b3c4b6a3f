//===- Phi3.cpp - phi3 ----------------------------------------------------===//
//
// Llama's layer; queries, keys and values are one stored matrix, and so are gate and
// up. Each is used as a view of its rows.
//
//===----------------------------------------------------------------------===//
#include "DecoderBuilder.h"

using namespace quern::architectures;

static DecoderBuilder::Heads projectFused(DecoderBuilder &b, Value x) {
  int64_t q = b.config.heads * b.config.headDim, kv = b.config.kvHeads * b.config.headDim;
  int64_t all = q + 2 * kv;
  return {b.linearOfRows(x, "attn_q", "attn_qkv", all, 0, q),
          b.linearOfRows(x, "attn_k", "attn_qkv", all, q, kv),
          b.linearOfRows(x, "attn_v", "attn_qkv", all, q + kv, kv)};
}

static Value layer(DecoderBuilder &b, Value x) {
  x = b.add(x, b.attend(projectFused(b, b.rmsNorm(x, "attn_norm"))));
  Value h = b.rmsNorm(x, "ffn_norm");
  // The file calls the fused matrix `ffn_up`; the gate comes first.
  int64_t inner = b.config.feedForward;
  Value gate = b.linearOfRows(h, "ffn_up.gate", "ffn_up", 2 * inner, 0, inner);
  Value up = b.linearOfRows(h, "ffn_up.up", "ffn_up", 2 * inner, inner, inner);
  return b.add(x, b.linear(b.gated(gate, up), "ffn_down", b.config.width));
}

const Architecture quern::architectures::phi3 = {"phi3", "Phi 3 and 3.5", layer};
