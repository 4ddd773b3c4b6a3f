"""Sets rows and columns of a matrix of a GGUF file to zero, or checks that they are in another file, where all is finite.

usage: plant_zeros.py make SOURCE.gguf OUT.gguf | plant_zeros.py check OUT.gguf
"""
import shutil, sys
import numpy as np
import gguf
from gguf.quants import dequantize

NAMES = "blk.0.ffn_down.weight", "blk.1.attn_v.weight"
if sys.argv[1] == "make":
    shutil.copy(sys.argv[2], sys.argv[3])
    for tensor in gguf.GGUFReader(sys.argv[3], "r+").tensors:
        if tensor.name in NAMES:
            tensor.data[:7] = 0
        elif tensor.name == "blk.2.ffn_up.weight":
            tensor.data[:] = 0
else:
    for tensor in gguf.GGUFReader(sys.argv[2]).tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        assert np.all(np.isfinite(values)), tensor.name
        if tensor.name in NAMES:
            assert not values[:7].any() and np.all(values[7:].any(axis=1)), tensor.name
        elif tensor.name == "blk.2.ffn_up.weight":
            assert not values.any()
