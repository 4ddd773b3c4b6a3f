#!/usr/bin/env python3
"""Compares the error of Quern's encoder with that of ggml's own quantizer (without an importance matrix) on a model's matrices.

usage: encoder_error.py FLOAT.gguf [--quern QUERN] [--matrices N] [TYPE...]      types: Q2_K Q3_K Q4_K ... (default: all that ggml writes)

Prints for each type the error of both, root mean square over that of the values, as means over matrices taken evenly from the file,
and the mean, least and largest ratio. Needs llama-cpp-python (for ggml) and gguf.
"""
import argparse, ctypes, glob, os, subprocess, tempfile
import numpy as np
import gguf
import llama_cpp
from gguf import GGMLQuantizationType as T, GGUFReader, quants

TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "IQ3_S", "MXFP4"]
COLUMNS = 256  # of a block of the largest types; rows are cut or joined to it


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--quern", default=os.path.join(os.path.dirname(__file__), "..", "build", "bin", "quern"))
    parser.add_argument("--matrices", type=int, default=12)
    parser.add_argument("types", nargs="*", default=TYPES)
    args = parser.parse_intermixed_args()
    ggml = ctypes.CDLL(glob.glob(os.path.join(os.path.dirname(llama_cpp.__file__), "lib", "libggml-base.so"))[0])
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]

    tensors = [t for t in GGUFReader(args.model).tensors if len(t.shape) == 2 and t.name.startswith("blk.") and t.n_elements % COLUMNS == 0]
    tensors = [tensors[i] for i in np.unique(np.linspace(0, len(tensors) - 1, args.matrices).astype(int))]
    values = {t.name: quants.dequantize(t.data, t.tensor_type).astype(np.float32).reshape(-1, COLUMNS) for t in tensors}

    def error(name, found):
        x = values[name].astype(np.float64)
        return np.sqrt(((found - x) ** 2).mean() / (x ** 2).mean())

    print(f"{'type':8} {'quern':>8} {'ggml':>8} {'ratio':>7} {'least':>7} {'largest':>8}   ({len(values)} matrices)")
    with tempfile.TemporaryDirectory() as folder:
        floats, coded = os.path.join(folder, "float.gguf"), os.path.join(folder, "coded.gguf")
        writer = gguf.GGUFWriter(floats, "llama")
        for name, x in values.items():
            writer.add_tensor(name, x)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        for kind in args.types:
            subprocess.run([args.quern, "convert", floats, coded, "--format", kind, "--force"], check=True, stdout=subprocess.DEVNULL)
            ours, theirs = [], []
            for t in GGUFReader(coded).tensors:
                assert t.tensor_type is T[kind], (t.name, t.tensor_type)
                ours.append(error(t.name, quants.dequantize(t.data, t.tensor_type).reshape(-1, COLUMNS)))
                x = np.ascontiguousarray(values[t.name])
                out = np.zeros(t.data.nbytes, np.uint8)
                assert ggml.ggml_quantize_chunk(int(T[kind]), x.ctypes.data, out.ctypes.data, 0, *x.shape, None) == out.nbytes
                theirs.append(error(t.name, quants.dequantize(out.reshape(t.data.shape), T[kind]).reshape(-1, COLUMNS)))
            ratio = np.array(ours) / np.array(theirs)
            print(f"{kind:8} {np.mean(ours):8.5f} {np.mean(theirs):8.5f} {ratio.mean():7.3f} {ratio.min():7.3f} {ratio.max():8.3f}", flush=True)


if __name__ == "__main__":
    main()
