"""What `quern quantize` wrote is a GGUF file: all tensors are there, metadata and tokenizer too."""
import sys
import gguf

reader = gguf.GGUFReader(sys.argv[1])
names = {t.name for t in reader.tensors}
assert len(names) == 38, len(names)
assert "blk.3.ffn_down.weight" in names and "output_norm.weight" in names
assert len(reader.fields["tokenizer.ggml.tokens"].data) == 4096
for tensor in reader.tensors:
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    assert values.size == tensor.n_elements and abs(values).max() < 100, tensor.name
