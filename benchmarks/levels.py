#!/usr/bin/env python3
"""The levels of `table<lm2>` to `table<lm6>`: Lloyd's algorithm on normally distributed groups.

Each group is scaled by a number of its own that may have either sign, so the levels need not be
symmetric: whichever side of a group reaches further goes to the side of the table that does. In
turn, every group gets the scale that suits it best, and every level the mean of what it stands for,
weighted by the squared scale. Kernels multiply levels as int8, so they are made integers: distances
between neighbours are rounded, in the unit that loses least (of 64 levels, most are 2 or 3 apart).

    benchmarks/levels.py            # all tables, with the signal-to-noise ratio in dB
"""
import numpy as np


def assign(levels, groups, factors):
    """The scale and the codes of each group, and its squared error."""
    middles = (levels[1:] + levels[:-1]) / 2
    reach = np.abs(groups).max(1) / np.abs(levels).max()
    error = np.full(len(groups), np.inf)
    scale = np.zeros(len(groups))
    codes = np.zeros(groups.shape, int)
    for factor in factors:
        for sign in (1, -1):
            s = reach * factor * sign
            for _ in range(2):  # the codes of a scale, the best scale for those codes
                q = levels[np.searchsorted(middles, groups / s[:, None])]
                best = (q * groups).sum(1) / np.maximum((q * q).sum(1), 1e-9)
                s = np.where(best * sign > 0, best, s)
            c = np.searchsorted(middles, groups / s[:, None])
            e = ((groups - s[:, None] * levels[c]) ** 2).sum(1)
            better = e < error
            error[better], scale[better], codes[better] = e[better], s[better], c[better]
    return scale, codes, error


def decibels(error, groups):
    return -10 * np.log10(error.sum() / groups.size)


def design(bits, group, count=4000, rounds=40):
    random = np.random.default_rng(1)
    groups = random.normal(size=(count, group))
    levels = np.quantile(random.normal(size=200000), (np.arange(2**bits) + 0.5) / 2**bits)
    levels[0] *= 1.1  # one side reaches further
    for _ in range(rounds):
        scale, codes, _ = assign(levels, groups, np.linspace(0.6, 1.3, 15))
        weight = np.broadcast_to(scale[:, None] ** 2, codes.shape)
        total = np.bincount(codes.ravel(), weight.ravel(), 2**bits)
        moment = np.bincount(codes.ravel(), (scale[:, None] * groups).ravel(), 2**bits)
        levels = np.where(total > 0, moment / np.maximum(total, 1e-30), levels)
        levels /= np.abs(levels).max()
    best = None
    centre = np.abs(levels).argmin()
    fresh = random.normal(size=(count, group))
    for unit in np.linspace(80, 135, 56):
        steps = np.maximum(np.round(np.diff(levels) * unit), 1)
        rounded = np.concatenate([[0], np.cumsum(steps)])
        rounded += np.round(levels[centre] * unit) - rounded[centre]
        if rounded.min() < -128 or rounded.max() > 127:
            continue
        ratio = decibels(assign(rounded, fresh, np.linspace(0.7, 1.25, 12))[2], fresh)
        if best is None or ratio > best[0]:
            best = ratio, [int(v) for v in rounded]
    return best


if __name__ == "__main__":
    for bits, group in ((2, 16), (3, 32), (4, 32), (5, 32), (6, 32)):
        ratio, levels = design(bits, group)
        print(f"lm{bits}: {ratio:.2f} dB, {levels}", flush=True)
