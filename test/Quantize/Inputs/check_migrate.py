"""Checks what transforms do to statistics and weights against what numpy makes of the same.

usage: check_migrate.py spread BEFORE.qst AFTER.qst       largest over mean magnitude of channels falls everywhere
       check_migrate.py kurtosis BEFORE.qst AFTER.qst     of what norms give: falls below 4, of some from far above
       check_migrate.py search S.qst BEFORE.gguf AFTER.gguf STEPS    the exponents that AWQ's search in q4_0 takes
       check_migrate.py clip S.qst BEFORE.gguf AFTER.gguf STEPS      the limits that AWQ's clip search in q4_0 takes
"""
import importlib.util
import os
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


if __name__ == "__main__":
    {"spread": spread, "kurtosis": kurtosis, "search": search, "clip": clip}[sys.argv[1]](
        *sys.argv[2:5], *map(int, sys.argv[5:]))
