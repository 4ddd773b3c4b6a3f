"""A small mixture of experts with random weights, and what must be true of its statistics and files.

usage: moe.py make FIXTURE OUT           the fixture's configuration and tokenizer, wider, with random weights
       moe.py statistics FILE.qst        experts together see what the router sees
       moe.py equal A.gguf B.gguf        the same tensors
       moe.py better MODEL.gguf A.gguf B.gguf FILE.qst    expert by expert, A's error by H is below B's
"""
import json, os, shutil, struct, sys
import numpy as np
import gguf
from gguf.quants import dequantize

import statistics_file

WIDTH, INNER, EXPERTS, USED, HEADS, KV, HEAD, VOCAB = 64, 32, 6, 2, 4, 2, 16, 272


def make(fixture, out):
    os.makedirs(out)
    config = json.load(open(os.path.join(fixture, "config.json")))
    assert (config["num_experts"], config["num_experts_per_tok"], config["head_dim"], config["vocab_size"]) == (EXPERTS, USED, HEAD, VOCAB)
    config.update(hidden_size=WIDTH, moe_intermediate_size=INNER)
    json.dump(config, open(os.path.join(out, "config.json"), "w"))
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(os.path.join(fixture, name), out)
    random, tensors = np.random.default_rng(3), {}

    def add(name, *shape):
        values = random.standard_normal(shape) / np.sqrt(shape[-1]) if len(shape) > 1 else 1 + 0.1 * random.standard_normal(shape)
        tensors[name + ".weight"] = values.astype(np.float32)

    add("model.embed_tokens", VOCAB, WIDTH)
    add("lm_head", VOCAB, WIDTH)
    add("model.norm", WIDTH)
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        add(layer + "input_layernorm", WIDTH)
        add(layer + "post_attention_layernorm", WIDTH)
        for part, rows in (("q", HEADS * HEAD), ("k", KV * HEAD), ("v", KV * HEAD)):
            add(layer + f"self_attn.{part}_proj", rows, WIDTH)
        add(layer + "self_attn.o_proj", WIDTH, HEADS * HEAD)
        add(layer + "self_attn.q_norm", HEAD)
        add(layer + "self_attn.k_norm", HEAD)
        add(layer + "mlp.gate", EXPERTS, WIDTH)
        for e in range(EXPERTS):
            for part, shape in (("gate", (INNER, WIDTH)), ("up", (INNER, WIDTH)), ("down", (WIDTH, INNER))):
                add(layer + f"mlp.experts.{e}.{part}_proj", *shape)
    header, offset = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
    raw = json.dumps(header).encode()
    with open(os.path.join(out, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        for values in tensors.values():
            file.write(values.tobytes())


def of_experts(entries, weight):
    found = sorted((e for e in entries if weight in e["names"]), key=lambda e: e["expert"])
    assert [e["expert"] for e in found] == list(range(EXPERTS)), (weight, [e["expert"] for e in found])
    return found


def statistics(path):
    tokens, entries = statistics_file.entries(path)
    for layer in range(2):
        router, = (e for e in entries if f"blk.{layer}.ffn_gate_inp.weight" in e["names"])
        up, down = (of_experts(entries, f"blk.{layer}.ffn_{part}_exps.weight") for part in ("up", "down"))
        assert up == of_experts(entries, f"blk.{layer}.ffn_gate_exps.weight") and router["expert"] == -1
        assert sum(e["rows"] for e in up) == USED * router["rows"] and len({e["rows"] for e in up}) > 1
        assert [e["rows"] for e in up] == [e["rows"] for e in down]
        for name in statistics_file.SUMS + ("hessian",):
            total = sum(e[name].astype(float) for e in up)
            assert np.allclose(total, USED * router[name], rtol=1e-4, atol=1e-5 * np.abs(total).max()), (layer, name)
        assert all(np.any(a["square"] != b["square"]) for a, b in zip(down, down[1:]))
    print(f"{len(entries)} inputs of {tokens} tokens agree")


def tensors_of(path):
    return {t.name: t for t in gguf.GGUFReader(path).tensors}


def equal(a, b):
    a, b = tensors_of(a), tensors_of(b)
    assert sorted(a) == sorted(b)
    for name in a:
        assert a[name].tensor_type == b[name].tensor_type and np.array_equal(a[name].data, b[name].data), name


def better(model, a, b, path):
    source, a, b = tensors_of(model), tensors_of(a), tensors_of(b)
    _, entries = statistics_file.entries(path)
    for name in source:
        if not name.endswith("_exps.weight"):
            continue
        w, x, y = (dequantize(t[name].data, t[name].tensor_type).astype(float) for t in (source, a, b))
        assert w.shape == x.shape == y.shape and len(w) == EXPERTS
        ratios = []
        for e, entry in enumerate(of_experts(entries, name)):
            k = w.shape[2]
            h = np.zeros((k, k))
            h[np.tril_indices(k)] = entry["hessian"]
            h += np.tril(h, -1).T
            error = lambda v: np.einsum("nk,kl,nl->", v[e] - w[e], h, v[e] - w[e], optimize=True)
            ratios.append(error(x) / error(y))
        assert max(ratios) < 0.95, (name, ratios)


if __name__ == "__main__":
    {"make": make, "statistics": statistics, "equal": equal, "better": better}[sys.argv[1]](*sys.argv[2:])
