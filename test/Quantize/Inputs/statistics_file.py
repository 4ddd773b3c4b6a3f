"""Reads files of statistics by their description (include/quern/Quantize/Statistics.h): the second is the first twice."""
import struct, sys
import numpy as np


def read(path):
    data = open(path, "rb").read()
    at = 0

    def take(form):
        nonlocal at
        values = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return values[0]

    def string():
        nonlocal at
        size = take("I")
        at += size
        return data[at - size:at].decode()

    def array(kind, count):
        nonlocal at
        values = np.frombuffer(data, kind, count, at)
        at += values.nbytes
        return values

    assert data[:8] == b"QUERNST1"
    at = 8
    assert take("Q") == len(data)
    take("Q")
    string(), string()
    tokens, inputs = take("Q"), []
    for _ in range(take("I")):
        names = [string() for _ in range(take("I"))]
        columns, rows = take("Q"), take("Q")
        parts = [array("<f4", columns)] + [array("<f8", columns) for _ in range(3)] + [array("<f4", columns * (columns + 1) // 2)]
        inputs.append((names, rows, parts))
    assert at == len(data)
    return tokens, inputs


def main():
    one, both = read(sys.argv[1]), read(sys.argv[2])
    assert both[0] == 2 * one[0]
    for (names, rows, a), (_, more, b) in zip(one[1], both[1]):
        assert more == 2 * rows, names
        assert np.array_equal(a[0], b[0]), names  # the largest stays
        for x, y in zip(a[1:], b[1:]):
            assert np.allclose(2 * x, y, rtol=1e-6), names
        # The diagonal holds sums of squares; no |x| is larger than the largest.
        columns = len(a[0])
        diagonal = a[4][np.arange(columns) * (np.arange(columns) + 3) // 2]
        assert np.all(diagonal <= rows * a[0].astype(float) ** 2 * (1 + 1e-5)), names
        assert np.all(diagonal * rows >= a[1] ** 2 * (1 - 1e-5)), names


if __name__ == "__main__":
    main()
