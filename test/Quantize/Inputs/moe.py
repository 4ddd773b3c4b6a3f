"""A small mixture of experts with random weights, and what must be true of its statistics and files.

usage: moe.py make FIXTURE OUT [GAIN]    the fixture's configuration and tokenizer, wider, with random weights; up projections of
                                         expert e times GAIN^e
       moe.py gains FILE.qst GAIN        what enters down projections grows as they do
       moe.py statistics FILE.qst        experts together see what the router sees
       moe.py equal A.gguf B.gguf        the same tensors
       moe.py better MODEL.gguf A.gguf B.gguf FILE.qst    expert by expert, A's error by H is below B's
       moe.py trace MODEL.gguf A.gguf FILE.qst REPORT.json     stacks lose tr(H) |dW|^2 of each expert, as often as tokens go to it
       moe.py folded MODEL.gguf DIR FILE.qst      columns of down times the root of the largest magnitude of all experts over its mean
       moe.py clipped MODEL.gguf DIR FILE.qst     expert by expert, the error in q4_0 within blocks of 32 columns falls
"""
import json, os, shutil, struct, sys
import numpy as np
import gguf
from gguf.quants import dequantize

import statistics_file

WIDTH, INNER, EXPERTS, USED, HEADS, KV, HEAD, VOCAB = 64, 32, 6, 2, 4, 2, 16, 272


def make(fixture, out, gain=1):
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
            tensors[layer + f"mlp.experts.{e}.up_proj.weight"] *= np.float32(float(gain) ** e)
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


def gains(path, gain):
    _, entries = statistics_file.entries(path)
    for layer in range(2):
        down = of_experts(entries, f"blk.{layer}.ffn_down_exps.weight")
        means = [e["square"].sum() / e["rows"] for e in down]
        growth = [b / a / float(gain) ** 2 for a, b in zip(means, means[1:])]
        assert all(1 / 4 < g < 4 for g in growth), (layer, growth)


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
            h = hessian_of(entry, w.shape[2])
            error = lambda v: np.einsum("nk,kl,nl->", v[e] - w[e], h, v[e] - w[e], optimize=True)
            ratios.append(error(x) / error(y))
        assert max(ratios) < 0.95, (name, ratios)


def hessian_of(entry, k):
    h = np.zeros((k, k))
    h[np.tril_indices(k)] = entry["hessian"]
    return h + np.tril(h, -1).T


def trace(model, a, path, report):
    source, a = tensors_of(model), tensors_of(a)
    _, entries = statistics_file.entries(path)
    losses = {t["name"]: t["expected_loss"] for t in json.load(open(report))["tensors"]}
    for name in (n for n in source if n.endswith("_exps.weight")):
        w, x = (dequantize(t[name].data, t[name].tensor_type).astype(float) for t in (source, a))
        own = of_experts(entries, name)
        seen, expected = sum(e["rows"] for e in own), 0
        for e, entry in enumerate(own):
            expected += USED * entry["rows"] / seen * (entry["square"] / entry["rows"]).mean() * np.square(x[e] - w[e]).sum()
        assert abs(losses[name] / expected - 1) < 1e-4, (name, losses[name], expected)


def changed(folder, name, like):
    return np.fromfile(os.path.join(folder, name + ".f32"), np.float32).reshape(like.shape).astype(float)


def folded(model, folder, path):
    _, entries = statistics_file.entries(path)
    for name, tensor in tensors_of(model).items():
        if not name.endswith("ffn_down_exps.weight"):
            continue
        w = tensor.data.astype(float)
        largest = np.max([np.maximum(-e["min"], e["max"]) for e in of_experts(entries, name)], axis=0)
        scale = np.clip(np.sqrt(largest / largest.mean()), 1 / 64, 64)
        assert np.allclose(changed(folder, name, w), w * scale, rtol=1e-5), name


def clipped(model, folder, path):
    _, entries = statistics_file.entries(path)
    kind = gguf.GGMLQuantizationType.Q4_0
    rounded = lambda v: dequantize(gguf.quants.quantize(v.astype(np.float32), kind), kind).astype(float)
    stacks = [n for n in tensors_of(model) if n.endswith("_exps.weight")]
    for name in stacks:
        w = tensors_of(model)[name].data.astype(float)
        new, k = changed(folder, name, w), w.shape[2]
        for e, entry in enumerate(of_experts(entries, name)):
            h = hessian_of(entry, k) * np.kron(np.eye(k // 32), np.ones((32, 32)))
            before, after = (np.einsum("nk,kl,nl->", v - w[e], h, v - w[e]) for v in (rounded(w[e]), rounded(new[e])))
            assert after < 0.99 * before, (name, e, after / before)
    assert len(stacks) == 6


if __name__ == "__main__":
    {"make": make, "statistics": statistics, "gains": gains, "equal": equal, "better": better, "trace": trace, "folded": folded,
     "clipped": clipped}[sys.argv[1]](*sys.argv[2:])
