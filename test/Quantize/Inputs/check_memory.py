"""Calibrates and quantizes a model whose Hessians together need much more private memory than either may take.

usage: check_memory.py TINY_DIRECTORY TEXT SCRATCH_DIRECTORY

The model has random weights and the tokenizer of TINY_DIRECTORY. What each command uses at most is printed.
"""
import json, os, sys
import gguf
import numpy as np

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
from peak_memory import peak_of

tiny, text, scratch = sys.argv[1:]
LAYERS, WIDTH, FEED, HEADS = 10, 128, 2048, 4
LIMIT = 208 << 20
model = os.path.join(scratch, "wide.gguf")

with open(os.path.join(tiny, "tokenizer.json"), encoding="utf-8") as file:
    bpe = json.load(file)["model"]
tokens = sorted(bpe["vocab"], key=bpe["vocab"].get)
writer = gguf.GGUFWriter(model, "llama")
writer.add_context_length(64)
writer.add_embedding_length(WIDTH)
writer.add_block_count(LAYERS)
writer.add_feed_forward_length(FEED)
writer.add_head_count(HEADS)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_vocab_size(len(tokens))
writer.add_tokenizer_model("gpt2")
writer.add_tokenizer_pre("gpt-2")
writer.add_token_list(tokens)
writer.add_token_types([int(gguf.TokenType.NORMAL)] * len(tokens))
writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in bpe["merges"]])
writer.add_eos_token_id(0)
random = np.random.default_rng(1)


def tensor(name, *shape):
    values = random.standard_normal(shape, np.float32) / np.sqrt(shape[-1]) if len(shape) > 1 else np.ones(shape, np.float32)
    writer.add_tensor(name, values.astype(np.float16 if len(shape) > 1 else np.float32))


tensor("token_embd.weight", len(tokens), WIDTH)
tensor("output_norm.weight", WIDTH)
for i in range(LAYERS):
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        tensor(f"blk.{i}.{name}.weight", WIDTH, WIDTH)
    tensor(f"blk.{i}.ffn_gate.weight", FEED, WIDTH)
    tensor(f"blk.{i}.ffn_up.weight", FEED, WIDTH)
    tensor(f"blk.{i}.ffn_down.weight", WIDTH, FEED)
    tensor(f"blk.{i}.attn_norm.weight", WIDTH)
    tensor(f"blk.{i}.ffn_norm.weight", WIDTH)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()


hessians = LAYERS * FEED * FEED * 8  # in f64, as they are added up
statistics, out = os.path.join(scratch, "s.qst"), os.path.join(scratch, "out.gguf")
for name, command in (("calibrate", ["quern", "calibrate", model, "--text", text, "--window", "32", "--tokens", "64", "-o", statistics]),
                      ("quantize", ["quern", "quantize", model, "--format", "Q4_0", "--statistics", statistics, "--solver", "nearest", "-o", out])):
    peak = peak_of(command)
    assert 0 < peak <= LIMIT < hessians, f"{name}: {peak >> 20} MiB of {LIMIT >> 20}"
    print(f"{name}: {hessians >> 20} MiB of hessians with {peak >> 20} MiB of private memory; allowed {LIMIT >> 20}")
for path in (model, statistics, out):
    os.remove(path)
