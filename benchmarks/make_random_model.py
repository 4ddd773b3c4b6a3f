#!/usr/bin/env python3
"""Writes a llama-shaped model of 1.1 billion random f16 weights as GGUF: the shape of TinyLlama, for speed measurements.

Weights are Gaussian with a deviation that keeps activations at unit scale (so that no kernel meets infinities or denormals);
the tokenizer is copied from a GGUF that has one of at most 32000 tokens. Same seed, same bytes. Quantized versions: make_gguf.py.

usage: make_random_model.py OUT.gguf VOCAB.gguf [--layers 22] [--seed 0]      needs: numpy gguf
"""
import argparse, os
import numpy as np, gguf

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("out")
parser.add_argument("vocab")
parser.add_argument("--layers", type=int, default=22)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
WIDTH, HEADS, KV_HEADS, HEAD, FEED_FORWARD, VOCAB, CONTEXT = 2048, 32, 4, 64, 5632, 32000, 2048

part = args.out + ".part"
writer = gguf.GGUFWriter(part, "llama")
writer.add_name("random-1.1b")
writer.add_block_count(args.layers)
writer.add_context_length(CONTEXT)
writer.add_embedding_length(WIDTH)
writer.add_feed_forward_length(FEED_FORWARD)
writer.add_head_count(HEADS)
writer.add_head_count_kv(KV_HEADS)
writer.add_rope_dimension_count(HEAD)
writer.add_rope_freq_base(10000.0)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_vocab_size(VOCAB)
writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)

source = gguf.GGUFReader(args.vocab)
for key, field in source.fields.items():
    if not key.startswith("tokenizer."):
        continue
    value = field.contents()
    if key == "tokenizer.ggml.tokens":
        if len(value) > VOCAB:
            raise SystemExit(f"{args.vocab}: {len(value)} tokens; at most {VOCAB} fit this model")
        padding = VOCAB - len(value)
        value = value + [f"<unused{i}>" for i in range(padding)]
    elif key == "tokenizer.ggml.token_type":
        value = value + [int(gguf.TokenType.UNUSED)] * padding
    elif key == "tokenizer.ggml.scores":
        value = value + [-1e4] * padding
    sub = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
    writer.add_key_value(key, value, field.types[0], sub_type=sub)

rows = {"attn_q": (HEADS * HEAD, WIDTH), "attn_k": (KV_HEADS * HEAD, WIDTH), "attn_v": (KV_HEADS * HEAD, WIDTH),
        "attn_output": (WIDTH, HEADS * HEAD), "ffn_gate": (FEED_FORWARD, WIDTH), "ffn_up": (FEED_FORWARD, WIDTH),
        "ffn_down": (WIDTH, FEED_FORWARD)}
shapes = {"token_embd.weight": (VOCAB, WIDTH), "output_norm.weight": (WIDTH,), "output.weight": (VOCAB, WIDTH)}
for layer in range(args.layers):
    shapes[f"blk.{layer}.attn_norm.weight"] = shapes[f"blk.{layer}.ffn_norm.weight"] = (WIDTH,)
    shapes.update({f"blk.{layer}.{name}.weight": shape for name, shape in rows.items()})
for name, shape in shapes.items():
    dtype = np.float16 if len(shape) == 2 else np.float32
    writer.add_tensor_info(name, shape, np.dtype(dtype), int(np.prod(shape)) * np.dtype(dtype).itemsize)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_ti_data_to_file()
for index, (name, shape) in enumerate(shapes.items()):
    rng = np.random.Generator(np.random.Philox(key=[args.seed, index]))
    if len(shape) == 1:
        data = np.ones(shape, np.float32)
    else:
        deviation = np.float32(1.0 if name.startswith("token_embd") else shape[1] ** -0.5)
        data = (rng.standard_normal(shape, dtype=np.float32) * deviation).astype(np.float16)
    writer.write_tensor_data(data)
writer.close()
os.rename(part, args.out)
print(args.out, os.path.getsize(args.out))
