#!/usr/bin/env python3
"""Checks the mean x^2 in a file of statistics against a forward pass of the model in numpy, which shares no code with Quern.

The importance matrix that llama.cpp gets from benchmarks/fidelity is these means. Models of the llama architecture (Hugging Face
directories). Prints the largest relative difference over all columns of all products, and fails where it exceeds --tolerance.

usage: mean_squares.py MODEL_DIR TEXT [--tokens N] [--window N] [--tolerance R]
"""
import argparse, json, mmap, struct, tempfile
import numpy as np
from quality import mean_squares, quern


def read_safetensors(path):
    """{name: array in f32}"""
    with open(path, "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    size, = struct.unpack_from("<Q", data)
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        raw = data[8 + size + begin : 8 + size + end]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(raw, {"F16": np.float16, "F32": np.float32}[entry["dtype"]]).astype(np.float32)
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def forward_means(folder, sequences):
    """{matrix: mean of x^2 by column} of what enters each product, over all tokens of all sequences."""
    config = json.load(open(f"{folder}/config.json"))
    assert config["model_type"] == "llama", config["model_type"]
    weights = read_safetensors(f"{folder}/model.safetensors")
    heads, shared = config["num_attention_heads"], config["num_key_value_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    base = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
    sums, count = {}, 0

    def product(x, *names):
        for name in names:
            sums[name] = sums.get(name, 0) + (x.astype(np.float64) ** 2).sum(0)

    def norm(x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(config["rms_norm_eps"])) * weights[name]

    def rotate(x):  # [tokens, heads, width]; halves of a head are a pair
        angles = np.arange(len(x))[:, None] * base ** (-np.arange(0, width, 2) / width)
        cos, sin = (f(angles).astype(np.float32)[:, None] for f in (np.cos, np.sin))
        a, b = np.split(x, 2, -1)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    for ids in sequences:
        x, n = weights["model.embed_tokens.weight"][ids], len(ids)
        count += n
        mask = np.triu(np.full((n, n), -np.inf, np.float32), 1)
        for i in range(config["num_hidden_layers"]):
            layer, block = f"model.layers.{i}.", f"blk.{i}."
            h = norm(x, layer + "input_layernorm.weight")
            product(h, block + "attn_q.weight", block + "attn_k.weight", block + "attn_v.weight")
            q, k, v = (h @ weights[f"{layer}self_attn.{p}_proj.weight"].T for p in "qkv")
            q, k = rotate(q.reshape(n, heads, width)), rotate(k.reshape(n, shared, width))
            k, v = (np.repeat(t.reshape(n, shared, width), heads // shared, 1) for t in (k, v))
            scores = np.einsum("ihd,jhd->hij", q, k) / np.float32(width) ** 0.5 + mask
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            mixed = np.einsum("hij,jhd->ihd", scores / scores.sum(-1, keepdims=True), v).reshape(n, heads * width)
            product(mixed, block + "attn_output.weight")
            x = x + mixed @ weights[layer + "self_attn.o_proj.weight"].T
            h = norm(x, layer + "post_attention_layernorm.weight")
            product(h, block + "ffn_gate.weight", block + "ffn_up.weight")
            gate, up = (h @ weights[f"{layer}mlp.{p}_proj.weight"].T for p in ("gate", "up"))
            h = gate / (1 + np.exp(-gate)) * up
            product(h, block + "ffn_down.weight")
            x = x + h @ weights[layer + "mlp.down_proj.weight"].T
        product(norm(x, "model.norm.weight"), "token_embd.weight" if config.get("tie_word_embeddings") else "output.weight")
    return {name: total / count for name, total in sums.items()}


def windows(model, text, tokens, window):
    """The sequences that `quern calibrate --tokens --window` runs."""
    ids = json.loads(quern("tokenize", model, "-", "--plain", "--json", input=open(text, encoding="utf-8", newline="").read()))["ids"]
    prefix = json.loads(quern("tokenize", model, "", "--add-special", "--json"))["ids"]
    count = len(ids) // window
    wanted = min(max(tokens // window, 1), count)
    return [prefix + ids[i * count // wanted * window :][:window] for i in range(wanted)]


def check(model, text, tokens=1024, window=256):
    """The largest relative difference of a column's mean x^2, and where."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/statistics.qst"
        quern("calibrate", model, "--text", text, "--tokens", str(tokens), "--window", str(window), "-o", path)
        ours = mean_squares(path)
    theirs = forward_means(model, windows(model, text, tokens, window))
    assert ours.keys() == theirs.keys(), sorted(ours.keys() ^ theirs.keys())
    worst = 0, ""
    for name, means in theirs.items():
        floor = means.mean() * 1e-3  # columns that are all but zero are compared by the others' size
        worst = max(worst, (float((np.abs(np.array(ours[name]) - means) / np.maximum(means, floor)).max()), name))
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--tolerance", type=float, default=1e-3)
    args = parser.parse_args()
    difference, name = check(args.model, args.text, args.tokens, args.window)
    print(f"mean x^2 against numpy: largest relative difference {difference:.2g} ({name})")
    if not difference <= args.tolerance:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
