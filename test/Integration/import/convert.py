"""Round trips of quern convert, checked with the gguf, safetensors and tokenizers packages. usage: convert.py SCRATCH MODELS"""
import json, os, shutil, subprocess, sys
import gguf, ml_dtypes, numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

scratch, models = sys.argv[1], sys.argv[2]
shutil.rmtree(scratch, ignore_errors=True)
os.makedirs(scratch)
rng = np.random.default_rng(0)


def convert(*arguments, error=None):
    done = subprocess.run(["quern", "convert", *arguments], capture_output=True, text=True)
    if error is None:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 1 and error in done.stderr, done.stderr
    return done.stderr


def path(name):
    return os.path.join(scratch, name)


def read_gguf(name):
    """Tensors as float32, and metadata."""
    reader = gguf.GGUFReader(path(name))
    return ({t.name: gguf.dequantize(t.data, t.tensor_type).astype(np.float32).reshape(t.shape[::-1]) for t in reader.tensors},
            {k: f.contents() for k, f in reader.fields.items()})


def interleave(w, heads):
    """Rows in halves, as Hugging Face has them, to rows in pairs."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def same(a, b):
    assert a.shape == b.shape and a.dtype == b.dtype, (a.shape, b.shape, a.dtype, b.dtype)
    assert a.tobytes() == b.tobytes()


BASE = dict(hidden_size=64, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=2, intermediate_size=96, vocab_size=40,
            max_position_embeddings=256, head_dim=16, rms_norm_eps=1e-6, rope_theta=10000.0, tie_word_embeddings=False, torch_dtype="bfloat16")
ARCHITECTURES = {
    "llama": dict(model_type="llama", rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                                        original_max_position_embeddings=256)),
    "mistral": dict(model_type="mistral", sliding_window=32),
    "qwen2": dict(model_type="qwen2", rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64)),
    "qwen3": dict(model_type="qwen3"),
    "qwen3moe": dict(model_type="qwen3_moe", num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, norm_topk_prob=True),
    "gemma3": dict(model_type="gemma3_text", sliding_window=16, query_pre_attn_scalar=64, rope_theta=1e6, tie_word_embeddings=True,
                   rope_scaling=dict(rope_type="linear", factor=8.0), layer_types=["sliding_attention", "full_attention"]),
    "phi3": dict(model_type="phi3", original_max_position_embeddings=64, sliding_window=None, rope_scaling=dict(
        type="longrope", short_factor=[1.0 + i / 8 for i in range(8)], long_factor=[2.0 + i for i in range(8)])),
}


def tensors_of(name, c):
    def random(*shape):
        return rng.standard_normal(shape, dtype=np.float32).astype(ml_dtypes.bfloat16)
    w, h, kv, d, f = c["hidden_size"], c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"], c["intermediate_size"]
    t = {"model.embed_tokens.weight": random(c["vocab_size"], w), "model.norm.weight": random(w)}
    if not c["tie_word_embeddings"]:
        t["lm_head.weight"] = random(c["vocab_size"], w)
    for n in range(c["num_hidden_layers"]):
        p = f"model.layers.{n}."
        t[p + "input_layernorm.weight"], t[p + "post_attention_layernorm.weight"] = random(w), random(w)
        if name == "gemma3":
            t[p + "pre_feedforward_layernorm.weight"], t[p + "post_feedforward_layernorm.weight"] = random(w), random(w)
        if name in ("gemma3", "qwen3", "qwen3moe"):
            t[p + "self_attn.q_norm.weight"], t[p + "self_attn.k_norm.weight"] = random(d), random(d)
        if name == "phi3":
            t[p + "self_attn.qkv_proj.weight"], t[p + "mlp.gate_up_proj.weight"] = random((h + 2 * kv) * d, w), random(2 * f, w)
        else:
            for part, heads in (("q", h), ("k", kv), ("v", kv)):
                t[p + f"self_attn.{part}_proj.weight"] = random(heads * d, w)
                if name == "qwen2":
                    t[p + f"self_attn.{part}_proj.bias"] = random(heads * d)
        t[p + "self_attn.o_proj.weight"] = random(w, h * d)
        if name == "qwen3moe":
            t[p + "mlp.gate.weight"] = random(4, w)
            for e in range(4):
                t[p + f"mlp.experts.{e}.gate_proj.weight"], t[p + f"mlp.experts.{e}.up_proj.weight"] = random(32, w), random(32, w)
                t[p + f"mlp.experts.{e}.down_proj.weight"] = random(w, 32)
        else:
            if name != "phi3":
                t[p + "mlp.gate_proj.weight"], t[p + "mlp.up_proj.weight"] = random(f, w), random(f, w)
            t[p + "mlp.down_proj.weight"] = random(w, f)
    return t


def report(name):
    return json.loads(subprocess.run(["quern", "inspect", "--json", path(name)], capture_output=True, check=True).stdout)


for name, changes in ARCHITECTURES.items():
    config = {**BASE, **changes}
    os.makedirs(path(name))
    json.dump(config, open(path(name + "/config.json"), "w"))
    original = tensors_of(name, config)
    save_file(original, path(name + "/model.safetensors"))
    convert(path(name), path(name + ".gguf"))
    convert(path(name + ".gguf"), path(name + "-back"), "--dequantize", "bf16")
    # What comes back is what went in; the hyper-parameters mean the same.
    back = load_file(path(name + "-back/model.safetensors"))
    assert back.keys() == original.keys(), back.keys() ^ original.keys()
    for key in original:
        same(back[key], original[key])
    a, b, middle = report(name)["config"], report(name + "-back")["config"], report(name + ".gguf")["config"]
    assert a == b, (a, b)
    middle["norm_eps"] = a["norm_eps"]  # rounded to f32
    assert a == middle, (a, middle)
    again = json.load(open(path(name + "-back/config.json")))
    assert again["torch_dtype"] == "bfloat16" and again["model_type"] == config["model_type"]
    scaling, old = again.get("rope_scaling", {}), config.get("rope_scaling", {})
    for key in ("factor", "short_factor", "long_factor", "original_max_position_embeddings", "low_freq_factor"):
        if key in old:
            assert np.allclose(scaling[key], old[key], rtol=1e-5), (name, key, scaling)
    # And what lies between is what GGUF readers expect.
    middle, keys = read_gguf(name + ".gguf")
    arch = keys["general.architecture"]
    assert arch == {"mistral": "llama"}.get(name, name)
    assert keys[arch + ".attention.head_count_kv"] == 2 and keys[arch + ".block_count"] == 2
    q = original.get("model.layers.1.self_attn.q_proj.weight")
    if q is not None:
        expected = interleave(q, 4) if arch == "llama" else q
        same(middle["blk.1.attn_q.weight"], expected.astype(np.float32))
    if name == "gemma3":
        same(middle["blk.0.post_ffw_norm.weight"], original["model.layers.0.post_feedforward_layernorm.weight"].astype(np.float32) + np.float32(1))
    if name == "qwen3moe":
        stack = np.stack([original[f"model.layers.1.mlp.experts.{e}.down_proj.weight"] for e in range(4)])
        same(middle["blk.1.ffn_down_exps.weight"], stack.astype(np.float32))
    print(name, "ok")

# The model in the repository with its tokenizer, both ways.
tiny = os.path.join(models, "tiny")
convert(tiny, path("tiny.gguf"))
_, keys = read_gguf("tiny.gguf")
assert keys["tokenizer.ggml.model"] == "gpt2" and keys["tokenizer.ggml.pre"] == "gpt-2", keys["tokenizer.ggml.pre"]
source = json.load(open(os.path.join(tiny, "tokenizer.json")))
assert len(keys["tokenizer.ggml.tokens"]) == 4096 and len(keys["tokenizer.ggml.merges"]) == len(source["model"]["merges"])
assert keys["tokenizer.ggml.token_type"][0] == 3 and keys["tokenizer.ggml.bos_token_id"] == 0
convert(path("tiny.gguf"), path("tiny-back"), "--dequantize", "bf16")
original, back = load_file(os.path.join(tiny, "model.safetensors")), load_file(path("tiny-back/model.safetensors"))
assert original.keys() == back.keys()
for key in original:
    same(back[key], original[key])
one, two = Tokenizer.from_file(os.path.join(tiny, "tokenizer.json")), Tokenizer.from_file(path("tiny-back/tokenizer.json"))
for text in ("Hello, world! It's 2024.", "  spaces\n\n\ttabs", "naïve café — 日本語 🙂", "<|endoftext|>x", "def f(x):\n    return x**2\n"):
    assert one.encode(text).ids == two.encode(text).ids, text
    assert two.decode(two.encode(text).ids) == one.decode(one.encode(text).ids), text
print("tokenizer ok")

# Encoding and decoding agree with the gguf package, byte for byte.
convert(tiny, path("q8.gguf"), "--format", "q8_0")
reader = {t.name: t for t in gguf.GGUFReader(path("q8.gguf")).tensors}
w = original["model.layers.2.mlp.down_proj.weight"].astype(np.float32)
assert reader["blk.2.ffn_down.weight"].data.tobytes() == gguf.quantize(w, gguf.GGMLQuantizationType.Q8_0).tobytes()
assert reader["blk.2.attn_norm.weight"].tensor_type == gguf.GGMLQuantizationType.F32
convert(path("q8.gguf"), path("q8.safetensors"), "--dequantize", "f32")
same(load_file(path("q8.safetensors"))["model.layers.2.mlp.down_proj.weight"],
     gguf.dequantize(reader["blk.2.ffn_down.weight"].data, gguf.GGMLQuantizationType.Q8_0))
convert(path("tiny.gguf"), path("copy.gguf"))
assert open(path("tiny.gguf"), "rb").read() == open(path("copy.gguf"), "rb").read()
print("formats ok")

# Nothing is overwritten unless asked; what cannot be is refused, leaving nothing behind.
before = sorted(os.listdir(scratch))
convert(tiny, path("tiny.gguf"), error="exists; give --force to overwrite it")
convert(tiny, path("tiny-back"), error="exists; give --force to overwrite it")
convert(path("tiny.gguf"), path("tiny.gguf"), "--force", error="is the input")
convert(path("q8.gguf"), path("new"), error="is Q8_0, which safetensors cannot hold; give --dequantize f32|bf16 or --format")
convert(tiny, path("new.gguf"), "--format", "q9", error="GGUF has no type 'q9'; it has F32, F16, Q4_0")
convert(tiny, path("new.gguf"), "--dequantize", "f64", error="cannot dequantize to 'f64'; expected f32 or bf16")
broken = dict(original)
broken["model.layers.0.mlp.up_proj.weight"] = np.full((768, 256), np.nan, ml_dtypes.bfloat16)
save_file(broken, path("qwen2/model.safetensors"))
shutil.copy(os.path.join(tiny, "config.json"), path("qwen2/config.json"))
convert(path("qwen2"), path("new.gguf"), "--format", "q8_0", error="up_proj.weight")
assert sorted(os.listdir(scratch)) == before, set(os.listdir(scratch)) ^ set(before)
convert(tiny, path("tiny-back"), "--force")
convert(tiny, path("tiny.gguf"), "--force")
note = convert(path("phi3"), path("k.gguf"), "--format", "Q4_K")
assert "has rows of 64 elements, which Q4_K cannot hold; it becomes Q8_0" in note, note
print("refusals ok")
