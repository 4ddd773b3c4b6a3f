"""Checks what transforms do to statistics and weights against what numpy makes of the same.

usage: check_migrate.py spread BEFORE.qst AFTER.qst       largest over mean magnitude of channels falls everywhere
       check_migrate.py kurtosis BEFORE.qst AFTER.qst     of what norms give: falls below 4, of some from far above
       check_migrate.py sorted DIR HEADS                  columns of down projections, and within heads of output ones, descend
       check_migrate.py equal DIR                         largest of a row of up is that of the column of down
       check_migrate.py beyond MODULE.mlir                thresholds of outliers are 127.5 static scales
       check_migrate.py losses BEFORE.mlir AFTER.mlir     of the down projection falls (quern-estimate-losses)
       check_migrate.py bias S.qst MODULE.mlir DIR COUNT  biases are E[x] (W - W')^T
       check_migrate.py search S.qst BEFORE.gguf AFTER.gguf STEPS    the exponents that AWQ's search in q4_0 takes
       check_migrate.py clip S.qst BEFORE.gguf AFTER.gguf STEPS      the limits that AWQ's clip search in q4_0 takes
"""
import importlib.util
import os
import re
import sys

import gguf
import numpy as np

place = importlib.util.spec_from_file_location("qst", os.path.join(os.path.dirname(__file__), "statistics_file.py"))
qst = importlib.util.module_from_spec(place)
place.loader.exec_module(qst)


class Input:
    def __init__(self, entry):
        self.names, rows, (self.abs_max, _, total, fourth, lower) = entry
        n = len(self.abs_max)
        h = np.zeros((n, n))
        h[np.tril_indices(n)] = lower
        self.h = (h + np.tril(h, -1).T) / rows
        self.mean = total / rows
        self.kurtosis = fourth.mean() / rows / np.mean(np.diag(self.h)) ** 2


def inputs(path):
    return {i.names[0]: i for i in map(Input, qst.read(path)[1])}


def tensors(path):
    return {t.name: t.data.astype(np.float64).reshape(tuple(map(int, t.shape[::-1]))) for t in gguf.GGUFReader(path).tensors}


def rounded(w):
    kind = gguf.GGMLQuantizationType.Q4_0
    return gguf.quants.dequantize(gguf.quants.quantize(w.astype(np.float32), kind), kind).astype(np.float64)


def spread(before, after):
    later = inputs(after)
    for name, a in inputs(before).items():
        ratio = [i.abs_max.max() / i.abs_max.mean() for i in (a, later[name])]
        print(name, *ratio)
        if name == "token_embd.weight":
            continue  # tied, not scaled
        assert ratio[1] < 0.6 * ratio[0], name


def kurtosis(before, after):
    most, later = 0, inputs(after)
    for name, a in inputs(before).items():
        if "attn_q" not in name and "ffn_gate" not in name:
            continue
        b = later[name]
        print(name, a.kurtosis, b.kurtosis)
        most = max(most, a.kurtosis)
        assert b.kurtosis < min(4, a.kurtosis), name
    assert most > 20, most


def search(path, before, after, steps):
    old, new = tensors(before), tensors(after)
    checked, layers = 0, sum(name.endswith("ffn_down.weight") for name in old)
    for i in inputs(path).values():
        first = i.names[0]
        if "ffn_down" in first:
            took = np.median(new[first] / old[first], axis=0)
        elif "attn_q" in first or "ffn_gate" in first:
            norm = first.replace("attn_q", "attn_norm").replace("ffn_gate", "ffn_norm")
            took = old[norm] / new[norm]
        else:
            continue
        loss, scales = [], []
        for step in range(steps):
            s = np.maximum(i.mean ** (step / steps), 1e-4)
            s = s / np.sqrt(s.max() * s.min()) if step else np.ones(len(s))
            total = 0
            for name in i.names:
                w = old[name]
                rows = w[[r * len(w) // min(len(w), 256) for r in range(min(len(w), 256))]]
                d = rounded(rows * s) / s - rows
                total += len(w) / len(rows) * np.sum((d @ i.h) * d)
            loss.append(total)
            scales.append(s)
        error = [np.abs(took / s - 1).max() for s in scales]
        choice = int(np.argmin(error))
        print(first, "took", choice, "of", np.array(loss) / loss[0])
        assert error[choice] < 1e-5, first
        assert loss[choice] <= min(loss) * (1 + 1e-4), first  # two exponents may be as good
        assert loss[choice] <= loss[0], first
        checked += 1
    assert checked == 3 * layers, checked


def clip(path, before, after, steps):
    old, new = tensors(before), tensors(after)
    smaller = groups = 0
    for i in inputs(path).values():
        for name in i.names:
            if any(part in name for part in ("attn_q", "attn_k", "token_embd")):
                assert np.array_equal(old[name], new[name]), name  # never
                continue
            w = old[name].reshape(len(old[name]), -1, 32)
            h = np.stack([i.h[k:k + 32, k:k + 32] for k in range(0, len(i.h), 32)])
            largest = np.abs(w).max(-1, keepdims=True)
            loss = []
            for step in range(steps):
                limit = largest * (1 - step / (2 * steps))
                d = rounded(np.clip(w, -limit, limit).reshape(len(w), -1)).reshape(w.shape) - w
                loss.append(np.einsum("rgi,gij,rgj->rg", d, h, d))
            loss = np.array(loss)
            took = np.abs(new[name].reshape(w.shape)).max(-1) / largest[..., 0]
            step = np.rint((1 - took) * 2 * steps).astype(int)
            assert np.abs(1 - step / (2 * steps) - took).max() < 1e-5, name
            chosen = np.take_along_axis(loss, step[None], 0)[0]
            # Limits are f32 there, so that few weights at a boundary of two codes round otherwise.
            assert np.mean(chosen > loss.min(0) * (1 + 1e-4) + 1e-12) < 0.002, name
            assert chosen.sum() <= loss[0].sum(), name
            d = rounded(new[name]) - old[name]
            plain = rounded(old[name]) - old[name]
            full = [np.sum((e @ i.h) * e) for e in (d, plain)]
            print(name, "clipped", np.mean(step > 0), "of groups; error", chosen.sum() / loss[0].sum(), full[0] / full[1])
            smaller += np.sum(step > 0)
            groups += step.size
    assert 0.1 < smaller / groups < 0.95, smaller / groups


def written(folder, part):
    """Matrices of the first layer as a pass wrote them; their width is the one that divides."""
    return np.fromfile(os.path.join(folder, f"blk.0.{part}.f32"), "<f4").astype(np.float64)


def sorted_columns(folder, kv_heads):
    up, down = written(folder, "ffn_up.weight"), written(folder, "ffn_down.weight")
    width = written(folder, "attn_output.weight").size
    v, o = written(folder, "attn_v.weight"), written(folder, "attn_output.weight")
    model = int(round(np.sqrt(width)))  # all heads together are as wide as the model
    ffn = up.size // model
    down = np.abs(down.reshape(model, ffn)).max(0)
    assert np.all(np.diff(down) <= 0) and down[0] > down[-1]
    head = v.size // model // kv_heads
    o = np.abs(o.reshape(model, kv_heads, -1, head)).max((0, 2))
    assert np.all(np.diff(o, axis=1) <= 0) and np.all(o[:, 0] > o[:, -1])


def equal(folder):
    up, down, o = written(folder, "ffn_up.weight"), written(folder, "ffn_down.weight"), written(folder, "attn_output.weight")
    model = int(round(np.sqrt(o.size)))
    rows, columns = np.abs(up.reshape(-1, model)).max(1), np.abs(down.reshape(model, -1)).max(0)
    assert np.allclose(rows, columns, rtol=1e-5), (rows / columns)


def losses(before, after):
    found = []
    for path in (before, after):
        text = open(path).read()
        found.append({name: float(loss) for name, loss in re.findall(r'quern\.weight @(\S+) .*loss = (\S+) : f64', text)})
    ratio = {name: found[1][name] / loss for name, loss in found[0].items()}
    print(ratio)
    assert ratio["blk.0.ffn_down.weight"] < 0.7
    assert all(r < 1.01 for r in ratio.values())  # a head is a group


def beyond(module):
    found = re.findall(r"outlier_threshold = (\S+) : f32, static_scale = (\S+) : f32", open(module).read())
    assert len(found) == 29 and all(abs(float(t) / float(s) / 127.5 - 1) < 1e-5 for t, s in found), found


def bias(statistics, module, folder, count):
    text = open(module).read()
    files = dict(re.findall(r'quern\.file @"?([^" ]+)"? path "([^"]+)"', text))
    stored, views = {}, {}
    for name, shape, form, f, at, size in re.findall(
            r'quern\.weight @"?([^" ]+)"? : tensor<([\dx]+)xf32(?:, #quern\.(\w+))?>.*? from \[data @"?([^" ]+?)"? (?:at (\d+) )?size (\d+)\]', text):
        data = np.fromfile(files[f], np.uint8, int(size), offset=int(at or 0))
        values = (data.view("<u2").astype("<u4") << 16).view("<f4") if form == "bf16" else data.view("<f4")
        stored[name] = values.reshape([int(n) for n in shape.split("x")])
    for name, base, row in re.findall(r'quern\.weight @"?([^" ]+)"? : tensor<[^>]*> view of @"?([^" ]+?)"? rows (\d+)', text):
        views.setdefault(base, []).append((int(row), name))
    checked = 0
    for names, rows, (_, total, _, _, _) in qst.read(statistics)[1]:
        for name in names:
            if name == "token_embd.weight":
                continue
            w = stored[name].astype(np.float64)
            data = open(os.path.join(folder, name + ".coded"), "rb").read()
            packed = np.frombuffer(data, np.uint8, w.size // 2)
            codes = np.stack([packed & 15, packed >> 4], -1).reshape(w.shape).astype(np.int8)
            codes = np.where(codes > 7, codes - 16, codes)
            decoded = codes * np.frombuffer(data, "<f4", len(w), packed.size).astype(np.float64)[:, None]
            expected = (w - decoded) @ (total / rows)
            found = np.concatenate([np.fromfile(os.path.join(folder, part.replace(".weight", ".bias.f32")), "<f4")
                                    for _, part in sorted(views.get(name, [(0, name)]))])
            assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max() + 1e-7, name
            assert np.abs(expected).max() > 0, name
            checked += 1
    assert checked == count, checked


if __name__ == "__main__":
    {"spread": spread, "kurtosis": kurtosis, "sorted": sorted_columns, "equal": equal, "losses": losses, "bias": bias, "beyond": beyond, "search": search, "clip": clip}[sys.argv[1]](
        *(int(a) if a.isdigit() else a for a in sys.argv[2:]))
