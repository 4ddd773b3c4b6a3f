"""Compiles a model much larger than the memory that compiling may take.

usage: check_memory.py TINY_DIRECTORY SCRATCH_DIRECTORY FORMAT...

The model is a sparse file of 3.6 GB (all weights zero, the tokenizer of TINY_DIRECTORY). For each FORMAT ("own": as it is) the
compiler runs under a hard limit on private memory, 1 GB and one tensor, and must succeed; what it used at most is printed.
"""
import json, os, resource, sys
import gguf
import numpy as np

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../.."))
from peak_memory import peak_of

tiny, scratch, *formats = sys.argv[1:]
os.makedirs(scratch, exist_ok=True)
LAYERS, WIDTH, FEED, VOCAB, HEADS, KV_HEADS = 24, 2560, 6912, 32000, 20, 4
model = os.path.join(scratch, "large.gguf")

with open(os.path.join(tiny, "tokenizer.json"), encoding="utf-8") as file:
    bpe = json.load(file)["model"]
tokens = sorted(bpe["vocab"], key=bpe["vocab"].get)
merges = [m if isinstance(m, str) else " ".join(m) for m in bpe["merges"]]
writer = gguf.GGUFWriter(model, "llama")
writer.add_context_length(2048)
writer.add_embedding_length(WIDTH)
writer.add_block_count(LAYERS)
writer.add_feed_forward_length(FEED)
writer.add_head_count(HEADS)
writer.add_head_count_kv(KV_HEADS)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_vocab_size(VOCAB)
writer.add_tokenizer_model("gpt2")
writer.add_tokenizer_pre("gpt-2")
padding = VOCAB - len(tokens)
writer.add_token_list(tokens + [f"<unused{i}>" for i in range(padding)])
writer.add_token_types([int(gguf.TokenType.NORMAL)] * len(tokens) + [int(gguf.TokenType.UNUSED)] * padding)
writer.add_token_merges(merges)
writer.add_eos_token_id(0)

# Names, shapes and offsets only: the data is a hole at the end of the file.
data = largest = 0


def tensor(name, *shape, dtype=np.float16):
    global data, largest
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    writer.add_tensor_info(name, shape, np.dtype(dtype), size)
    data += -(-size // 32) * 32
    largest = max(largest, size)


tensor("token_embd.weight", VOCAB, WIDTH)
tensor("output.weight", VOCAB, WIDTH)
tensor("output_norm.weight", WIDTH, dtype=np.float32)
for i in range(LAYERS):
    for name, *shape in (("attn_q", WIDTH, WIDTH), ("attn_k", WIDTH * KV_HEADS // HEADS, WIDTH), ("attn_v", WIDTH * KV_HEADS // HEADS, WIDTH),
                         ("attn_output", WIDTH, WIDTH), ("ffn_gate", FEED, WIDTH), ("ffn_up", FEED, WIDTH), ("ffn_down", WIDTH, FEED)):
        tensor(f"blk.{i}.{name}.weight", *shape)
    tensor(f"blk.{i}.attn_norm.weight", WIDTH, dtype=np.float32)
    tensor(f"blk.{i}.ffn_norm.weight", WIDTH, dtype=np.float32)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_ti_data_to_file()
writer.close()
with open(model, "r+b") as file:
    file.truncate(-(-os.path.getsize(model) // 32) * 32 + data)

LIMIT = (1 << 30) + largest
for format in formats:
    out = os.path.join(scratch, "program")
    command = ["quern", "compile", model, "-o", out, "--target", "x86-64-v3", "--force"]
    if format != "own":
        command += ["--format", format]
    peak = peak_of(command, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT)))
    assert 0 < peak <= LIMIT, f"{peak >> 20} MiB"
    print(f"{format}: {data / 1e9:.1f} GB of weights compiled with {peak >> 20} MiB of private memory; allowed {LIMIT >> 20}")
    os.remove(out)
os.remove(model)
