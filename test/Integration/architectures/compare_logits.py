#!/usr/bin/env python3
"""Compares logits with golden ones; exits 1 and says where if any differs by more than the tolerance.

usage: compare_logits.py tokens GOLDEN.safetensors                       prints the token ids, for --tokens
       compare_logits.py check GOLDEN.safetensors LOGITS.npy [TOLERANCE]  LOGITS holds one row a token
       compare_logits.py same A.npy B.npy [TOLERANCE]
"""
import os, sys
import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from hf_to_gguf import read_safetensors

TOLERANCE = 2e-4


def compare(actual, expected, tolerance, rows):
    if actual.shape != expected.shape:
        sys.exit(f"shapes differ: expected {expected.shape}, found {actual.shape}")
    if not (np.isfinite(actual).all() and np.isfinite(expected).all()):
        sys.exit("a logit is not finite")
    error = np.abs(actual - expected)
    row, token = np.unravel_index(error.argmax(), error.shape)
    worst = f"largest difference {error[row, token]:.3g} at position {rows[row]}, token {token}: expected {expected[row, token]:.6f}, found {actual[row, token]:.6f}"
    if error[row, token] > tolerance:
        sys.exit(f"{worst}; {tolerance:g} is allowed")
    print(worst)


command, first, *rest = sys.argv[1:]
if command == "tokens":
    print(",".join(map(str, read_safetensors(first)["tokens"])))
elif command == "check":
    golden = read_safetensors(first)
    logits = np.load(rest[0]).astype(np.float64)
    if len(logits) != len(golden["tokens"]):
        sys.exit(f"expected a row for each of the {len(golden['tokens'])} tokens, found {len(logits)}")
    compare(logits[golden["positions"]], golden["logits"].astype(np.float64), float(rest[1]) if len(rest) > 1 else TOLERANCE, golden["positions"])
elif command == "same":
    a, b = np.load(first).astype(np.float64), np.load(rest[0]).astype(np.float64)
    compare(b, a, float(rest[1]) if len(rest) > 1 else TOLERANCE, range(len(a)))
else:
    sys.exit(__doc__)
