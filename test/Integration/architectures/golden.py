"""Runs a fixture through `quern interpret`, from its Hugging Face directory and as GGUF, and compares with its golden logits.

usage: golden.py NAME WORK_DIR      (quern is looked for on the PATH)
"""
import os, subprocess, sys
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from hf_to_gguf import convert, read_safetensors

TOLERANCE = 2e-4  # absolute; make_fixtures.py shows that no feature can be missing within ten times that


def interpret(model, tokens, out, *options):
    subprocess.run(["quern", "interpret", model, "--tokens", ",".join(map(str, tokens)), "--logits", out, "--force", *options],
                   check=True, stdout=subprocess.DEVNULL)
    return np.load(out).astype(np.float64)


def main(name, work):
    os.makedirs(work, exist_ok=True)
    fixture, gguf_file, out = os.path.join(HERE, name), os.path.join(work, name + ".gguf"), os.path.join(work, "logits.npy")
    convert(fixture, gguf_file)
    golden = read_safetensors(os.path.join(fixture, "golden.safetensors"))
    failed = False
    for model, options in [(fixture, []), (gguf_file, []), (fixture, ["--chunk", "5"])]:
        logits = interpret(model, golden["tokens"], out, "--kv-cache", "f32", *options)
        if logits.shape[0] != len(golden["tokens"]):
            sys.exit(f"expected logits of {len(golden['tokens'])} tokens, found {logits.shape[0]}")
        error = np.abs(logits[golden["positions"]] - golden["logits"]).max(axis=1)
        # `not <=` so that NaN fails.
        if not error.max() <= TOLERANCE:
            failed = True
            print(f"{model} {' '.join(options)}: largest difference at each position:",
                  ", ".join(f"{p}: {e:.3g}" for p, e in zip(golden["positions"], error)))
        else:
            print(f"{model} {' '.join(options)}: {error.max():.3g}")
    sys.exit(failed)


main(*sys.argv[1:])
