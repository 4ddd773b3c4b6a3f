#!/usr/bin/env python3
"""Compares the logits of GGUF files that Quern writes with those that llama.cpp computes from the same files.

usage: interop.py check WORK_DIR     with the stored logits (llama_cpp.npz); quern is looked for on the PATH
       interop.py make WORK_DIR      stores them anew; needs llama-cpp-python

gemma3 is run with a local RoPE base of 10000 and heads scaled by their width: llama.cpp takes both as given.
"""
import hashlib, json, os, shutil, subprocess, sys
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from hf_to_gguf import read_safetensors

STORED = os.path.join(HERE, "llama_cpp.npz")
CHANGES = {"qwen2": {}, "qwen3": {}, "gemma3": {"rope_local_base_freq": 10000.0, "query_pre_attn_scalar": 16}}
POSITIONS = [0, 1, 7, 8, 15, 23, 31]  # on both sides of gemma3's window of 8
# Of logits up to 20, both computed in f32; ggml looks GELU up in a table of f16.
TOLERANCE = {"qwen2": 1e-4, "qwen3": 1e-4, "gemma3": 1e-2}


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def peer(path, tokens):
    import llama_cpp

    model = llama_cpp.Llama(path, n_ctx=len(tokens), n_batch=len(tokens), logits_all=True, verbose=False, n_threads=1, type_k=0, type_v=0)
    model.eval(tokens.tolist())
    return model.scores[: len(tokens)]


def main(command, work):
    os.makedirs(work, exist_ok=True)
    stored, failed = dict(np.load(STORED)) if command == "check" else {}, False
    for name, changes in CHANGES.items():
        source, path, out = (os.path.join(work, name + end) for end in ("", ".gguf", ".npy"))
        shutil.rmtree(source, ignore_errors=True)
        shutil.copytree(os.path.join(HERE, name), source)
        config = json.load(open(os.path.join(source, "config.json")))
        json.dump(config | changes, open(os.path.join(source, "config.json"), "w"))
        run("quern", "convert", source, path, "--dequantize", "f32", "--force")
        tokens = read_safetensors(os.path.join(HERE, name, "golden.safetensors"))["tokens"]
        digest = np.frombuffer(hashlib.sha256(open(path, "rb").read()).digest(), np.uint8)
        if command == "make":
            stored[name], stored[name + ".sha256"] = peer(path, tokens)[POSITIONS].astype(np.float32), digest
            print(f"{name}: stored {stored[name].shape}")
            continue
        if not (digest == stored[name + ".sha256"]).all():
            print(f"{name}: not the bytes that llama.cpp was given; if they are meant to change: interop.py make")
            failed = True
        run("quern", "interpret", path, "--tokens", ",".join(map(str, tokens)), "--logits", out, "--kv-cache", "f32", "--force")
        error = np.abs(np.load(out)[POSITIONS] - stored[name]).max()
        print(f"{name}: largest difference {error:.3g}")
        failed |= not error <= TOLERANCE[name]
    if command == "make":
        np.savez_compressed(STORED, **stored)
    sys.exit(failed)


main(*sys.argv[1:])
