"""Writes inputs and the gguf package's answers for test/Unit/Format/OracleTest.cpp.

TYPE.bytes  stored bytes of 16 rows of 1024 elements, random but for some extreme blocks
TYPE.f32    what gguf.quants.dequantize makes of them
TYPE.in     f32 values to encode (16 rows of 1024), TYPE.out the bytes gguf.quants.quantize gives
"""
import sys
import warnings

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

ROWS, COLS = 16, 1024
warnings.filterwarnings("ignore", category=RuntimeWarning)  # infinite scales are part of the test


def stored(qtype, rng):
    block, size = GGML_QUANT_SIZES[qtype]
    data = rng.integers(0, 256, (ROWS * COLS // block, size), dtype=np.uint8)
    # Rows 0 and 1 start with blocks of one repeated byte: zeros, all ones, sign bits, half bits.
    for row, values in enumerate(((0x00, 0xFF), (0x7F, 0x80), (0x01, 0xFE))):
        start = row * COLS // block
        for i, value in enumerate(values):
            data[start + i] = value
    return data.reshape(ROWS, COLS // block * size)


def values(rng):
    x = rng.standard_normal((ROWS, COLS)).astype(np.float32)
    x[1] *= np.float32(1e-6)  # f16 scales become subnormal
    x[2] *= np.float32(1e-9)  # and vanish
    x[3] = np.round(x[3] * 4) / 4  # ties
    x[4, :512] = 0
    x[5] = np.abs(x[5]) + 1  # one-sided
    x[6] = -np.abs(x[6])
    x[7, ::2] = 3.5  # ties at +-max
    x[7, 1::2] = -3.5
    x[8] *= np.exp2(rng.integers(-14, 14, COLS)).astype(np.float32)
    x[9] = np.float32(0.1)
    x[10] = np.arange(COLS) % 17 - 8
    x[11] = -0.0
    x[12] *= np.float32(1e-35)  # 1/scale is still finite: the package has no answer beyond
    return x


def main(out):
    for qtype in GGMLQuantizationType:
        rng = np.random.default_rng(1000 + int(qtype))
        data = stored(qtype, rng)
        try:
            decoded = quants.dequantize(data, qtype)
        except NotImplementedError:
            continue
        data.tofile(f"{out}/{qtype.name}.bytes")
        np.ascontiguousarray(decoded, dtype=np.float32).tofile(f"{out}/{qtype.name}.f32")
        x = values(rng)
        try:
            encoded = quants.quantize(x, qtype)
        except NotImplementedError:
            continue
        x.tofile(f"{out}/{qtype.name}.in")
        encoded.tofile(f"{out}/{qtype.name}.out")


main(sys.argv[1])
