#!/usr/bin/env python3
"""Writes llama.cpp's quantizations of a float GGUF, with llama.cpp's own quantizer.

usage: make_gguf.py FLOAT.gguf OUT_DIR [TYPE...]      types: Q4_0 Q4_K_M Q8_0 ... (default: these three)
"""
import os, sys
import llama_cpp as lc

source, out = sys.argv[1], sys.argv[2]
os.makedirs(out, exist_ok=True)
for name in sys.argv[3:] or ["Q4_0", "Q4_K_M", "Q8_0"]:
    path = os.path.join(out, name.lower() + ".gguf")
    if os.path.exists(path):
        continue
    params = lc.llama_model_quantize_default_params()
    params.ftype = getattr(lc, "LLAMA_FTYPE_MOSTLY_" + name)
    params.nthread = os.cpu_count()
    if lc.llama_model_quantize(source.encode(), (path + ".part").encode(), params):
        raise SystemExit(f"{source}: llama.cpp cannot quantize it to {name}")
    os.rename(path + ".part", path)
    print(path, os.path.getsize(path))
