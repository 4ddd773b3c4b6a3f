"""A model whose first parts are of one model and whose last feed-forward part is of another (both f32 checkpoints of one shape);
and whether two GGUF files have the same bytes of a tensor.

usage: hybrid.py make FRONT BACK OUT LAYER      the feed-forward part of LAYER is of BACK, all before it of FRONT
       hybrid.py same A.gguf B.gguf TENSOR...
"""
import json, shutil, struct, sys


def header(path):
    data = open(path, "rb").read()
    size = struct.unpack_from("<Q", data)[0]
    return data, 8 + size, json.loads(data[8:8 + size])


if sys.argv[1] == "make":
    front, back, out, layer = sys.argv[2:]
    shutil.copytree(back, out)
    data, begin, tensors = header(f"{back}/model.safetensors")
    other, other_begin, others = header(f"{front}/model.safetensors")
    mixed = bytearray(data)
    for name, tensor in tensors.items():
        if name == "__metadata__" or f"layers.{layer}.mlp" in name:
            continue
        (a, b), (c, d) = tensor["data_offsets"], others[name]["data_offsets"]
        assert b - a == d - c and tensor["dtype"] == "F32", name
        mixed[begin + a:begin + b] = other[other_begin + c:other_begin + d]
    open(f"{out}/model.safetensors", "wb").write(mixed)
else:
    import gguf
    a, b = ({t.name: t.data.tobytes() for t in gguf.GGUFReader(path).tensors} for path in sys.argv[2:4])
    for name in sys.argv[4:]:
        assert a[name] == b[name], f"{name} differs"
