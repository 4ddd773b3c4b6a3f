"""What `quern quantize` wrote is a GGUF file: all tensors are there, metadata and tokenizer too.

usage: check_gguf.py FILE REPORT DECODED      types are the report's; tensors lie aligned, one behind the other; each decodes to what
                                              the GGUF file DECODED, which Quern made of FILE, has in f32, bit for bit
"""
import json, sys
import gguf, numpy as np

path, report, decoded = sys.argv[1:]
reader = gguf.GGUFReader(path)
names = {t.name for t in reader.tensors}
assert len(names) == 38, len(names)
assert "blk.3.ffn_down.weight" in names and "output_norm.weight" in names
assert len(reader.fields["tokenizer.ggml.tokens"].data) == 4096

with open(report) as file:
    chosen = {t["name"]: t["format"] for t in json.load(file)["tensors"]}
ours = {t.name: t.data for t in gguf.GGUFReader(decoded).tensors}
end = 0
for tensor in sorted(reader.tensors, key=lambda t: t.data_offset):
    place = tensor.data_offset - reader.data_offset
    assert place % reader.alignment == 0 and end <= place < end + reader.alignment, tensor.name
    end = place + int(tensor.n_bytes)
    assert chosen.pop(tensor.name, tensor.tensor_type.name) == tensor.tensor_type.name, tensor.name
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    assert np.array_equal(values.view(np.uint32).ravel(), ours[tensor.name].view(np.uint32).ravel()), tensor.name
assert not chosen, chosen
