"""Copies a safetensors file of bf16 weights with one NaN planted in blk.1's up projection."""
import json, struct, sys

data = bytearray(open(sys.argv[1], "rb").read())
size, = struct.unpack_from("<Q", data)
entry = json.loads(data[8:8 + size])["model.layers.1.mlp.up_proj.weight"]
assert entry["dtype"] == "BF16"
struct.pack_into("<H", data, 8 + size + entry["data_offsets"][0] + 2 * 1000, 0x7FC0)
open(sys.argv[2], "wb").write(data)
