"""Checks column splits against numpy.

usage: check_split.py errors EXACT.npy PLAIN.npy SPLIT.npy   logits: plain int8 errs more than ten times as much
       check_split.py weights S.qst EXACT.mlir CHOSEN.mlir NEAREST_DIR SOLVED_DIR   which columns, and what they became
"""
import os
import re
import sys

import numpy as np


def errors(*paths):
    exact, plain, split = (np.load(p).astype(np.float64) for p in paths)
    rms = [np.sqrt(np.mean((x - exact) ** 2)) / exact.std() for x in (plain, split)]
    print("root mean square of the logits' error over their deviation:", *rms)
    assert rms[0] > 10 * rms[1] > 0, rms


def weights(statistics, exact, chosen, nearest, solved):
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import statistics_file
    stored = {}
    text = open(exact).read()
    files = dict(re.findall(r'quern\.file @"?([^" ]+)"? path "([^"]+)"', text))
    for name, shape, file, offset, size in re.findall(
            r'quern\.weight @"?([^" ]+)"? : tensor<([\dx]+)xf32.*? from \[data @"?([^" ]+?)"? (?:at (\d+) )?size (\d+)\]', text):
        stored[name] = np.fromfile(files[file], "<f4", int(size) // 4, offset=int(offset or 0)).reshape([int(n) for n in shape.split("x")])
    columns = {name: [int(n) for n in numbers.split(",")]
               for name, numbers in re.findall(r'quern\.weight @"?([^" ]+)"? .*quern\.split_columns = array<i32: ([\d, ]+)>', open(chosen).read())}
    checked = 0
    for names, rows, (absmax, _, _, _, lower) in statistics_file.read(statistics)[1]:
        h = np.zeros((len(absmax),) * 2)
        h[np.tril_indices(len(absmax))] = lower
        h = (h + np.tril(h, -1).T) / rows
        for name in names:
            if name not in columns:
                continue
            leading = columns[name]
            n = len(leading)
            assert n % 32 == 0 and leading == sorted(leading), name
            rest = np.setdiff1d(np.arange(len(absmax)), leading)
            assert absmax[leading].min() >= absmax[rest].max(), name
            w = stored[name].astype(np.float64)
            total = []
            for folder in (nearest, solved):
                data = open(os.path.join(folder, name + ".coded"), "rb").read()
                half = len(w) * n * 2
                large = np.frombuffer(data, "<f2", len(w) * n).reshape(len(w), n).astype(np.float64)
                codes = np.frombuffer(data, np.int8, len(w) * len(rest), half).reshape(len(w), -1).astype(np.float64)
                scales = np.frombuffer(data, "<f4", len(w), half + codes.size).astype(np.float64)
                order = np.frombuffer(data, "<i4", offset=half + codes.size + 4 * len(w))
                assert np.array_equal(order, np.concatenate([leading, rest])), name
                decoded = np.empty_like(w)
                decoded[:, leading], decoded[:, rest] = large, codes * scales[:, None]
                d = decoded - w
                total.append(np.sum((d @ h) * d))
                if folder == nearest:
                    assert np.array_equal(large, w[:, leading].astype(np.float16)), name
                    step = np.abs(w[:, rest]).max(1) / 127
                    assert np.allclose(np.abs(scales), step, rtol=0.01) and np.all(np.abs(d[:, rest]).max(1) <= 0.51 * np.abs(scales)), name
            print(name, "nearest", total[0], "solved", total[1])
            assert total[1] < 0.9 * total[0], name
            checked += 1
    assert checked == 7, checked


if __name__ == "__main__":
    {"errors": errors, "weights": weights}[sys.argv[1]](*sys.argv[2:])
