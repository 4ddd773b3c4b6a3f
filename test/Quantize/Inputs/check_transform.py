"""usage: check_transform.py logits A.npy B.npy TOLERANCE     B is A, relative to A's largest logit, and not the same bits
       check_transform.py order A.npy B.npy TOLERANCE      the same, where sums in another order may well be the same bits
       check_transform.py divergence TOKENS BASE.npy OTHER.npy... CONDITION    the condition holds of mean KLs of logits to BASE's
                                                                               (by name), of perplexities (name_ppl) and of the
                                                                               half width of 95 % intervals (name_interval)
       check_transform.py kl FILE.json... CONDITION         the condition holds of the files' mean KLs by name, such as 'plain > 10 * smooth'"""
import json
import os
import sys

import numpy as np

if sys.argv[1] in ("logits", "order"):
    a, b = np.load(sys.argv[2]).astype(np.float64), np.load(sys.argv[3]).astype(np.float64)
    error = np.abs(a - b).max() / np.abs(a).max()
    print("largest difference", error)
    assert error < float(sys.argv[4]), error
    assert error > 0 or sys.argv[1] == "order", "nothing changed"
elif sys.argv[1] == "divergence":
    tokens, base, *others, condition = sys.argv[2:]
    following = np.array([int(t) for t in tokens.split(",")][1:])

    def log_probabilities(path):
        x = np.load(path).astype(np.float64)
        x -= x.max(1, keepdims=True)
        return x - np.log(np.exp(x).sum(1, keepdims=True))

    expected, values = log_probabilities(base), {}
    for path in others:
        found, name = log_probabilities(path), os.path.splitext(os.path.basename(path))[0]
        each = (np.exp(expected) * (expected - found)).sum(1)
        values[name] = float(each.mean())
        values[name + "_interval"] = float(1.96 * each.std() / np.sqrt(len(each)))
        values[name + "_ppl"] = float(np.exp(-found[np.arange(len(following)), following].mean()))
    print(values)
    assert eval(condition, {}, values), (condition, values)
else:
    *files, condition = sys.argv[2:]
    kl = {os.path.splitext(os.path.basename(f))[0]: json.load(open(f))["kl_mean"] for f in files}
    print(kl)
    assert eval(condition, {}, kl), (condition, kl)
