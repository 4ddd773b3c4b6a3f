"""The numbers of quern-estimate-losses, quern-allocate and quern-quantize-weights, computed again.

losses ESTIMATED QUANTIZED SOURCE STATISTICS COUNT: tr(dW H dW^T) of the chosen formats, from the weights' own bytes and the
    statistics, of experts as often as tokens go to them
allocation MODULE FILE: the module's choice is the file's
gguf MODULE FILE COUNT: the bytes of matrices are those of the GGUF file, where it keeps the order of rows
kl BASE OTHER ESTIMATED NAME FORMAT: the loss of a choice is the divergence between two files of logits
"""
import json, re, sys
import numpy as np
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize

import moe, statistics_file


def weights(path):
    """name: (shape, format, file, offset, size, choices, chosen)"""
    text = open(path).read()
    files = dict(re.findall(r'quern\.file @"?([^" ]+)"? path "([^"]+)"', text))
    out = {}
    for line in text.split("\n"):
        m = re.match(r'\s*quern\.weight @"?([^" ]+)"? : tensor<([\dx]+)xf32(?:, #quern\.(\w+))?>.* from \[data @"?([^" ]+?)"? (?:at (\d+) )?size (\d+)\]', line)
        if not m:
            continue
        choices = {f: (int(b), float(l)) for b, f, l in re.findall(r"\{bytes = (\d+) : i64, format = #quern\.(\w+), loss = (\S+) : f64\}", line)}
        chosen = re.search(r"chosen_format = #quern\.(\w+)", line)
        shape = [int(n) for n in m[2].split("x")]
        out[m[1]] = (shape, m[3], files[m[4]], int(m[5] or 0), int(m[6]), choices, chosen and chosen[1])
    return out


def stored(entry):
    shape, form, path, offset, size = entry[:5]
    data = np.fromfile(path, np.uint8, size, offset=offset)
    if form in (None, "f32"):
        return data.view("<f4").reshape(shape).astype(float)
    if form == "bf16":
        return (data.view("<u2").astype("<u4") << 16).view("<f4").reshape(shape).astype(float)
    kind = {t.name.lower(): t for t in GGMLQuantizationType}[form.lower()]
    return dequantize(data.reshape(int(np.prod(shape[:-1])), -1), kind).reshape(shape).astype(float)


def loss_of(d, entries, name):
    """d: what rounding changed, of a matrix or a stack"""
    own = sorted((e for e in entries if name in e["names"]), key=lambda e: e["expert"])
    if not own:  # rows that are looked up: columns count the same
        return np.square(d).sum()
    stack, seen, columns, total = d.reshape(-1, *d.shape[-2:]), sum(e["rows"] for e in own), d.shape[-1], 0
    assert len(stack) == len(own), (name, len(own))
    for part, e in zip(stack, own):
        h = np.zeros((columns, columns))
        h[np.tril_indices(columns)] = e["hessian"]
        h = (h + np.tril(h, -1).T) / e["rows"]
        share = e["rows"] / seen * (moe.USED if d.ndim == 3 else 1)
        total += share * np.einsum("nk,kl,nl->", part, h, part, optimize=True)
    return total


kind, arguments = sys.argv[1], sys.argv[2:]
if kind == "losses":
    estimated, quantized, source = (weights(p) for p in arguments[:3])
    _, entries = statistics_file.entries(arguments[3])
    count = 0
    for name, entry in quantized.items():
        if entry[1] in (None, "f32", "bf16") or len(entry[0]) < 2:
            continue
        found = loss_of(stored(entry) - stored(source[name]), entries, name)
        size, loss = estimated[name][5][entry[1]]
        assert size == entry[4], (name, size, entry[4])
        assert abs(loss / found - 1) < 1e-4, (name, loss, found)
        count += 1
    assert count == int(arguments[4]), count
elif kind == "allocation":
    chosen = {name: entry[6].upper() for name, entry in weights(arguments[0]).items() if entry[6]}
    expected = {name: form.upper() for name, form in json.load(open(arguments[1]))["tensors"].items()}
    assert chosen == expected and len(set(chosen.values())) > 1, (chosen, expected)
elif kind == "gguf":
    module, tensors = weights(arguments[0]), {t.name: t for t in GGUFReader(arguments[1]).tensors}
    count = 0
    for name, entry in module.items():
        if len(entry[0]) < 2 or "attn_q" in name or "attn_k" in name:  # whose rows GGUF has in another order
            continue
        data = np.fromfile(entry[2], np.uint8, entry[4], offset=entry[3])
        assert np.array_equal(data, np.ascontiguousarray(tensors[name].data).reshape(-1).view(np.uint8)), name
        count += 1
    assert count == int(arguments[2]), count
elif kind == "kl":
    a, b = (np.load(p).astype(float) for p in arguments[:2])
    a, b = (x - np.logaddexp.reduce(x, axis=-1, keepdims=True) for x in (a, b))
    found = (np.exp(a) * (a - b)).sum(-1).mean()
    loss = weights(arguments[2])[arguments[3]][5][arguments[4]][1]
    assert found > 0 and abs(loss / found - 1) < 1e-3, (loss, found)
