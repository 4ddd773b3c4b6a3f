"""Importance matrices, by llama.cpp's description of them.

usage: check_imatrix.py gguf X.gguf X.qst       the one holds the squares of the other
       check_imatrix.py legacy X.dat X.qst
       check_imatrix.py make KIND OUT SOURCE    files with something wrong, from a good one (GGUF; legacy for kinds of .dat)
       check_imatrix.py make narrowN OUT        very many matrices of N columns
"""
import struct, sys
import gguf
import numpy as np

import statistics_file


def squares(path):
    """by weight: sums and rows, a matrix after the other"""
    out = {}
    for e in statistics_file.entries(path)[1]:
        for name in e["names"]:
            out.setdefault(name, []).append((e["expert"], e["square"], e["rows"]))
    return {n: (np.array([s for _, s, _ in sorted(v, key=lambda x: x[0])]), np.array([r for *_, r in sorted(v, key=lambda x: x[0])])) for n, v in out.items()}


def check_gguf(path, statistics):
    reader = gguf.GGUFReader(path)
    field = lambda key: reader.fields[key].contents()
    tokens, _ = statistics_file.entries(statistics)
    assert field("general.type") == "imatrix" and field("imatrix.datasets") == ["text.txt"], field("imatrix.datasets")
    assert field("imatrix.chunk_count") * field("imatrix.chunk_size") == tokens
    tensors, expected = {t.name: t for t in reader.tensors}, squares(statistics)
    assert len(tensors) == 2 * len(expected)
    for name, (sums, rows) in expected.items():
        found, counts = tensors[name + ".in_sum2"], tensors[name + ".counts"]
        assert list(found.shape) == [sums.shape[1], len(rows)] and list(counts.shape) == [1, len(rows)], name
        assert found.tensor_type == counts.tensor_type == gguf.GGMLQuantizationType.F32
        assert np.allclose(found.data.reshape(sums.shape), sums, rtol=1e-6) and np.array_equal(counts.data.reshape(-1), rows), name


def read_legacy(path):
    data, at, out = open(path, "rb").read(), 4, {}
    for _ in range(struct.unpack_from("<i", data)[0]):
        size, = struct.unpack_from("<i", data, at)
        name = data[at + 4:at + 4 + size].decode()
        calls, values = struct.unpack_from("<ii", data, at + 4 + size)
        at += 12 + size
        out[name] = np.frombuffer(data, "<f4", values, at) / calls
        at += 4 * values
    chunks, size = struct.unpack_from("<ii", data, at)
    assert len(data) == at + 8 + size
    return out, chunks, data[at + 8:].decode()


def check_legacy(path, statistics):
    found, chunks, text = read_legacy(path)
    expected = squares(statistics)
    assert text == "text.txt" and chunks > 0 and sorted(expected) == list(found)
    for name, (sums, rows) in expected.items():
        means = np.where(rows[:, None] > 0, sums / np.maximum(rows, 1)[:, None], 1)
        assert np.allclose(found[name], means.reshape(-1), rtol=1e-5), name


def make_narrow(kind, out):
    """Four megabytes of matrices of as few columns as the name says, of one weight."""
    columns, count = int(kind[6:].split(".")[0]), 0
    if kind.endswith(".dat"):
        entry = struct.pack("<i1sii", 1, b"w", 1, columns) + struct.pack("<f", 1) * columns
        count = (4 << 20) // len(entry)
        open(out, "wb").write(struct.pack("<i", count) + entry * count)
        return
    count = (4 << 20) // (4 * columns + 4)
    writer = gguf.GGUFWriter(out, "", use_temp_file=False)
    writer.kv_data[0].clear()
    writer.add_string("general.type", "imatrix")
    writer.add_tensor("w.in_sum2", np.ones((count, columns), np.float32))
    writer.add_tensor("w.counts", np.ones((count, 1), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make(kind, out, source=None):
    if kind.startswith("narrow"):
        return make_narrow(kind, out)
    if kind.endswith(".dat"):
        data = bytearray(open(source, "rb").read())
        if kind == "cut.dat":
            data = data[:len(data) // 2]
        elif kind == "huge.dat":
            data[4:8] = struct.pack("<i", 0x7fffffff)
        elif kind == "negative.dat":
            data[0:4] = struct.pack("<i", -5)
        open(out, "wb").write(data)
        return
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(out, "", use_temp_file=False)
    writer.kv_data[0].clear()
    writer.add_string("general.type", "model" if kind == "type" else "imatrix")
    writer.add_array("imatrix.datasets", ["text.txt"])
    writer.add_uint32("imatrix.chunk_count", 2)
    writer.add_uint32("imatrix.chunk_size", 128)
    for tensor in reader.tensors:
        data = np.array(tensor.data)
        if tensor.name.startswith("blk.1.ffn_down.weight"):
            if kind == "missing":
                continue
            if kind == "alone" and tensor.name.endswith("counts"):
                continue
            if kind == "short" and tensor.name.endswith("in_sum2"):
                data = data[:, :100]
            if kind == "counts" and tensor.name.endswith("counts"):
                data = np.repeat(data, 3, 0)
            if kind == "nan" and tensor.name.endswith("in_sum2"):
                data = np.full_like(data, np.nan)
            if kind == "f16" and tensor.name.endswith("in_sum2"):
                data = data.astype(np.float16)
            if kind == "unseen":
                data = np.zeros_like(data)
        writer.add_tensor(tensor.name, np.ascontiguousarray(data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    {"gguf": check_gguf, "legacy": check_legacy, "make": make}[sys.argv[1]](*sys.argv[2:])
