"""Reads files of statistics by their description (include/quern/Quantize/Statistics.h).

usage: statistics_file.py twice ONE BOTH       the second is the first twice
       statistics_file.py same WHOLE SUM       equal, to rounding
       statistics_file.py first ALL APART      the first tokens of the second and the rest of them are the first
       statistics_file.py moments FILE         sums, histogram and outliers agree with each other
"""
import struct, sys
import numpy as np

BINS_OF_SIGN = 4 * 48
SUMS = ("sum", "abs", "square", "cube", "fourth")


class Reader:
    def __init__(self, data, at):
        self.data, self.at = data, at

    def take(self, form):
        value = struct.unpack_from("<" + form, self.data, self.at)[0]
        self.at += struct.calcsize("<" + form)
        return value

    def string(self):
        size = self.take("I")
        self.at += size
        return self.data[self.at - size:self.at].decode()

    def array(self, kind, count):
        values = np.frombuffer(self.data, kind, count, self.at)
        self.at += values.nbytes
        return values


def entries(path):
    """tokens, and a dictionary for each input"""
    data = open(path, "rb").read()
    assert data[:8] == b"QUERNST2"
    head = Reader(data, 8)
    assert head.take("Q") == len(data)
    directory = Reader(data, head.take("Q"))
    directory.string(), directory.string()
    tokens, out = directory.take("Q"), []
    directory.take("I")
    for _ in range(directory.take("I")):
        e = {"names": [directory.string() for _ in range(directory.take("I"))], "expert": directory.take("i"), "positions": directory.take("B")}
        hessian, k, e["rows"] = directory.take("B"), directory.take("Q"), directory.take("Q")
        block = Reader(data, directory.take("Q"))
        directory.take("Q")
        e["min"], e["max"] = block.array("<f4", k), block.array("<f4", k)
        for name in SUMS:
            e[name] = block.array("<f8", k)
        e["outliers"], e["histogram"] = block.array("<u8", k), block.array("<u8", 1 + 2 * BINS_OF_SIGN)
        e["hessian"] = block.array("<f4", k * (k + 1) // 2 if hessian else 0)
        out.append(e)
    assert directory.at == len(data)
    return tokens, out


def read(path):
    """tokens, and (names, rows, [largest |x|, sum, sum |x|, sum x^4, lower triangle of x x^T]) for each input"""
    tokens, all = entries(path)
    return tokens, [(e["names"], e["rows"], [np.maximum(-e["min"], e["max"]), e["sum"], e["abs"], e["fourth"], e["hessian"]]) for e in all]


def close(a, b, **tolerance):
    scale = np.abs(a).max(initial=0)
    return a.shape == b.shape and np.allclose(a, b, atol=1e-6 * scale, **tolerance)


def twice(one, both):
    one, both = entries(one), entries(both)
    assert both[0] == 2 * one[0] and len(one[1]) == len(both[1])
    for a, b in zip(one[1], both[1]):
        assert b["rows"] == 2 * a["rows"] and a["names"] == b["names"]
        assert np.array_equal(a["min"], b["min"]) and np.array_equal(a["max"], b["max"]), a["names"]
        for name in SUMS + ("outliers", "histogram", "hessian"):
            assert np.allclose(2 * a[name], b[name], rtol=1e-6), (a["names"], name)


def same(whole, total):
    (tokens, a), (others, b) = entries(whole), entries(total)
    assert tokens == others and len(a) == len(b)
    for x, y in zip(a, b):
        assert x["rows"] == y["rows"] > 0 and x["names"] == y["names"]
        for name in ("min", "max", "outliers", "histogram"):
            assert np.array_equal(x[name], y[name]), (x["names"], name)
        for name in SUMS + ("hessian",):
            assert close(x[name], y[name]), (x["names"], name)


def first(whole, apart):
    whole, (_, apart) = entries(whole)[1], entries(apart)
    rest, firsts = ([e for e in apart if e["positions"] == p] for p in (2, 1))
    assert len(rest) == len(firsts) == len(whole) and len(apart) == 2 * len(whole)
    for a, r, f in zip(whole, rest, firsts):
        assert a["names"] == r["names"] == f["names"] and f["rows"] > 0 and not len(f["hessian"])
        assert a["rows"] == r["rows"] + f["rows"] and np.array_equal(a["max"], np.maximum(r["max"], f["max"]))
        assert np.array_equal(a["histogram"], r["histogram"] + f["histogram"])
        for name in SUMS:
            assert close(a[name], r[name] + f[name]), (a["names"], name)


def moments(path):
    exponents = np.arange(BINS_OF_SIGN)
    starts = (1 + exponents % 4 / 4) * 2.0 ** (exponents // 4 - 24)
    for e in entries(path)[1]:
        rows, k = e["rows"], len(e["sum"])
        diagonal = e["hessian"][np.arange(k) * (np.arange(k) + 3) // 2]
        assert np.allclose(diagonal, e["square"], rtol=1e-4), e["names"]
        assert np.all(np.abs(e["sum"]) <= e["abs"] * (1 + 1e-9)) and np.all(e["square"] * rows >= e["abs"] ** 2 * (1 - 1e-9))
        assert np.all(e["fourth"] * rows >= e["square"] ** 2 * (1 - 1e-9)) and np.all(e["cube"] ** 2 <= e["square"] * e["fourth"] * (1 + 1e-9))
        assert np.all(e["min"] * rows <= e["sum"] + 1e-3) and np.all(e["sum"] - 1e-3 <= e["max"] * rows)
        # Every value lies in one bin; bins bound the sums they stand for.
        h = e["histogram"].astype(float)
        assert h.sum() == rows * k, e["names"]
        both = h[1:1 + BINS_OF_SIGN] + h[1 + BINS_OF_SIGN:]
        low, high = (both * starts).sum(), (both * starts).sum() * 1.25 + h[0] * 2.0**-24
        assert low <= e["abs"].sum() <= high, (e["names"], low, e["abs"].sum(), high)
        assert np.all(e["outliers"] <= rows)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
