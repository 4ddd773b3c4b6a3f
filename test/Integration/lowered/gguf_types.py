"""Writes a llama with random weights in which every matrix has another of GGUF's types.

usage: gguf_types.py OUT.gguf [--square]      --square: one layer of F32 matrices of one shape, which compile quickly

What gguf can quantize is quantized; the other types are random bytes under a chosen scale, which uses all their codes.
"""
import os, sys
import numpy as np
import gguf
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T, quants

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "architectures"))
from hf_to_gguf import add_metadata, add_tokenizer

CONFIG = dict(model_type="llama", hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
              max_position_embeddings=64, rms_norm_eps=1e-5, vocab_size=272, bos_token_id=270, eos_token_id=271)
SQUARE = dict(CONFIG, hidden_size=96, intermediate_size=96, num_hidden_layers=1, num_attention_heads=3, num_key_value_heads=3)
# Q8_1 and Q8_K hold activations only; wider integers than these do not occur as weights.
TYPES = [t for t in T if t.name not in ("Q8_1", "Q8_K", "I32", "I64")]
# Where a block keeps its f16 scales (and offsets).
SCALES = dict(Q2_K=(80, 82), Q3_K=(108,), Q4_K=(0, 2), Q5_K=(0, 2), Q6_K=(208,), IQ2_XXS=(0,), IQ2_XS=(0,), IQ2_S=(0,), IQ3_XXS=(0,),
              IQ3_S=(0,), IQ1_S=(0,), IQ4_NL=(0,), IQ4_XS=(0,), Q1_0=(0,))


def with_scales(blocks, kind, value):
    """`blocks` [n, bytes] with all f16 scales set to `value`."""
    bits = np.frombuffer(np.float16(value).tobytes(), np.uint8)
    if kind is T.IQ1_M:  # four bits of it in the top of each 16-bit scale word
        half = int(bits[0]) | int(bits[1]) << 8
        for i in range(4):
            blocks[:, 49 + 2 * i] = (blocks[:, 49 + 2 * i] & 0x0F) | (half >> 4 * i & 15) << 4
    if kind is T.NVFP4:  # four bytes of unsigned 4-bit exponents and 3-bit mantissas
        blocks[:, :4] = (blocks[:, :4] & 7) | int(np.log2(value) + 7) << 3
    for at in SCALES.get(kind.name, ()):
        blocks[:, at:at + 2] = bits
    return blocks


def matrix(rng, kind, rows, cols):
    wanted = 1.5 / np.sqrt(cols)  # of the values, root mean square
    values = (rng.standard_normal((rows, cols)) * wanted).astype(np.float32)
    if kind in (T.F32, T.F16):
        return values.astype(np.float32 if kind is T.F32 else np.float16)
    if kind is T.F64:
        return values.astype(np.float64)
    if kind in (T.I8, T.I16):
        return rng.integers(-3, 4, (rows, cols)).astype(np.int8 if kind is T.I8 else np.int16)
    try:
        return quants.quantize(values, kind)
    except NotImplementedError:
        pass
    block, size = GGML_QUANT_SIZES[kind]
    assert kind in (T.IQ1_M, T.NVFP4) or kind.name in SCALES, f"{kind.name} is new: where are its scales?"
    blocks = rng.integers(0, 256, (rows * cols // block, size), np.uint8)
    try:
        spread = np.sqrt(np.mean(quants.dequantize(with_scales(blocks, kind, 1).reshape(rows, -1), kind) ** 2))
    except NotImplementedError:
        spread = 1  # signs
    return with_scales(blocks, kind, wanted / spread).reshape(rows, -1)


def main(out, square=None):
    rng = np.random.default_rng(7)
    c, left = (SQUARE, []) if square else (CONFIG, TYPES[::-1])
    width, hidden = c["hidden_size"], c["intermediate_size"]
    head = width // c["num_attention_heads"]
    kv = c["num_key_value_heads"] * head
    w = gguf.GGUFWriter(out, "llama")
    add_metadata(w, c, dict(rope_theta=500.0), head)
    add_tokenizer(w, os.path.join(HERE, "..", "architectures", "llama"), c)

    def add(name, rows, cols):
        kind = T.F32 if square else left.pop(0)
        w.add_tensor(name, matrix(rng, kind, rows, cols), raw_dtype=kind)

    add("token_embd.weight", c["vocab_size"], width)
    add("output.weight", c["vocab_size"], width)
    w.add_tensor("output_norm.weight", (1 + 0.2 * rng.standard_normal(width)).astype(np.float32))
    for i in range(c["num_hidden_layers"]):
        for norm in ("attn_norm", "ffn_norm"):
            w.add_tensor(f"blk.{i}.{norm}.weight", (1 + 0.2 * rng.standard_normal(width)).astype(np.float32))
        for name, rows, cols in (("attn_q", width, width), ("attn_k", kv, width), ("attn_v", kv, width), ("attn_output", width, width),
                                 ("ffn_gate", hidden, width), ("ffn_up", hidden, width), ("ffn_down", width, hidden)):
            add(f"blk.{i}.{name}.weight", rows, cols)
    assert not left, f"no matrix is left for {left}"
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
