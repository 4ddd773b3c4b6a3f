#!/usr/bin/env python3
"""Writes a fixture of this folder as a GGUF file, with the names, permutation and metadata llama.cpp's converter gives it.

usage: hf_to_gguf.py FIXTURE_DIR OUT.gguf [TYPE]      TYPE: BF16 (as stored; the default), F32, F16, Q8_0, ...

Matrices whose rows TYPE's blocks do not divide are kept as F16, one-dimensional tensors as F32, as that converter does.
Needs numpy, gguf and ml_dtypes, so that tests can make the files they read.
"""
import json, math, os, struct, sys
import gguf, ml_dtypes, numpy as np


def read_safetensors(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    types = {"BF16": ml_dtypes.bfloat16, "F32": np.float32, "I32": np.int32}
    header.pop("__metadata__", None)
    return {name: np.frombuffer(data[t["data_offsets"][0]:t["data_offsets"][1]], types[t["dtype"]]).reshape(t["shape"])
            for name, t in header.items()}


def read_model(folder):
    tensors = {}
    for file in sorted(os.listdir(folder)):
        if file.startswith("model") and file.endswith(".safetensors"):
            tensors.update(read_safetensors(os.path.join(folder, file)))
    return {name: t.astype(np.float32) for name, t in tensors.items()}


def permute(w, heads):
    """Rows of each head from halves (i, i + d/2) to neighbours (2i, 2i + 1)."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def llama3_factors(rope, head_dim):
    """What the base frequencies are divided by."""
    factors = []
    for i in range(head_dim // 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (2 * i / head_dim)
        low = rope["original_max_position_embeddings"] / rope["low_freq_factor"]
        high = rope["original_max_position_embeddings"] / rope["high_freq_factor"]
        if wavelength < high:
            factors.append(1.0)
        elif wavelength > low:
            factors.append(rope["factor"])
        else:
            smooth = (low / wavelength * rope["low_freq_factor"] - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"])
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, np.float32)


def add_metadata(w, c, rope, head_dim):
    w.add_name("fixture")
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_block_count(c["num_hidden_layers"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(c["num_attention_heads"])
    w.add_head_count_kv(c["num_key_value_heads"])
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    w.add_key_length(head_dim)
    w.add_value_length(head_dim)
    w.add_rope_freq_base(rope["rope_theta"])
    w.add_rope_dimension_count(int(head_dim * rope.get("partial_rotary_factor", 1)))
    w.add_vocab_size(c["vocab_size"])
    kind = c["model_type"]
    if kind == "qwen3_moe":
        w.add_expert_count(c["num_experts"])
        w.add_expert_used_count(c["num_experts_per_tok"])
        w.add_expert_feed_forward_length(c["moe_intermediate_size"])
    if kind in ("mistral", "phi3", "gemma3_text"):
        w.add_sliding_window(c["sliding_window"])
    if kind == "gemma3_text":
        w.add_sliding_window_pattern(6)
        w.add_rope_freq_base_swa(c["rope_local_base_freq"])
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(rope["factor"])
        w.add_attention_scale(c["query_pre_attn_scalar"] ** -0.5)
    if kind == "phi3":
        original = c["original_max_position_embeddings"]
        w.add_rope_scaling_orig_ctx_len(original)
        scale = c["max_position_embeddings"] / original
        w.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scale) / math.log(original)))


def add_tokenizer(w, folder, c):
    t = json.load(open(os.path.join(folder, "tokenizer.json")))
    vocab = dict(t["model"]["vocab"])
    special = {a["content"]: a["id"] for a in t["added_tokens"]}
    vocab.update(special)
    tokens = sorted(vocab, key=vocab.get)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(tokens)
    w.add_token_types([gguf.TokenType.CONTROL if t in special else gguf.TokenType.NORMAL for t in tokens])
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in t["model"]["merges"]])
    w.add_bos_token_id(c["bos_token_id"])
    w.add_eos_token_id(c["eos_token_id"])
    w.add_add_bos_token(False)


def gguf_tensors(c, rope, head_dim, tensors, arch):
    """(name, array) as the file has them."""
    kind, experts = c["model_type"], {}
    names = gguf.get_tensor_name_map(arch, c["num_hidden_layers"])
    for name, t in tensors.items():
        if kind in ("llama", "mistral"):
            if name.endswith("q_proj.weight"):
                t = permute(t, c["num_attention_heads"])
            if name.endswith("k_proj.weight"):
                t = permute(t, c["num_key_value_heads"])
        if kind == "gemma3_text" and name.endswith("norm.weight"):
            t = t + 1
        if ".experts." in name:
            layer, rest = name.split(".mlp.experts.")
            expert, which = rest.split(".", 1)
            experts.setdefault(f"{layer}.mlp.experts.{which}", {})[int(expert)] = t
            continue
        yield names.get_name(name, try_suffixes=(".weight", ".bias")), t
    for name, parts in experts.items():
        yield names.get_name(name, try_suffixes=(".weight",)), np.stack([parts[i] for i in range(len(parts))])
    if rope.get("rope_type") == "llama3":
        yield "rope_freqs.weight", llama3_factors(rope, head_dim)
    if kind == "phi3":
        yield "rope_factors_long.weight", np.array(rope["long_factor"], np.float32)
        yield "rope_factors_short.weight", np.array(rope["short_factor"], np.float32)


ARCHITECTURES = dict(llama=gguf.MODEL_ARCH.LLAMA, mistral=gguf.MODEL_ARCH.LLAMA, qwen2=gguf.MODEL_ARCH.QWEN2, qwen3=gguf.MODEL_ARCH.QWEN3,
                     qwen3_moe=gguf.MODEL_ARCH.QWEN3MOE, gemma3_text=gguf.MODEL_ARCH.GEMMA3, phi3=gguf.MODEL_ARCH.PHI3)


def convert(folder, out, type_name="BF16"):
    c = json.load(open(os.path.join(folder, "config.json")))
    rope = dict(c.get("rope_parameters") or c.get("rope_scaling") or {})
    for key in ("rope_theta", "partial_rotary_factor"):
        if key in c:
            rope[key] = c[key]
    head_dim = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    arch = ARCHITECTURES[c["model_type"]]
    w = gguf.GGUFWriter(out, gguf.MODEL_ARCH_NAMES[arch])
    add_metadata(w, c, rope, head_dim)
    add_tokenizer(w, folder, c)
    wanted = gguf.GGMLQuantizationType[type_name]
    block = gguf.GGML_QUANT_SIZES[wanted][0]
    for name, t in gguf_tensors(c, rope, head_dim, read_model(folder), arch):
        assert name, "a tensor without a GGUF name"
        kind = gguf.GGMLQuantizationType.F32
        if t.ndim > 1 and not name.endswith("ffn_gate_inp.weight"):
            kind = wanted if t.shape[-1] % block == 0 else gguf.GGMLQuantizationType.F16
        w.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(t), kind), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    convert(*sys.argv[1:])
