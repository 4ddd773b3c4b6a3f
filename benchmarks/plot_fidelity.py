#!/usr/bin/env python3
"""Draws tables of docs/Fidelity.md: KL divergence over file size, as SVG. Fails if our curve does not fall everywhere.

The rows of all tables whose first column is headed `peer, MODEL` belong together.

usage: plot_fidelity.py docs/Fidelity.md MODEL > docs/fidelity.svg
"""
import math, re, sys

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 420, 70, 20, 30, 50
COLOURS = {"valid": "#1f5fa8", "code": "#b3541e"}


def read(path, model):
    """{(who, text): [(bytes, KL, label)]}"""
    curves, belongs = {}, False
    for line in open(path):
        cells = [c.strip().strip("`") for c in line.strip().strip("|").split("|")]
        if len(cells) != 8:
            belongs = False
        elif cells[0].startswith("peer, "):
            belongs = cells[0].removeprefix("peer, ").strip("`") == model
        elif belongs and re.fullmatch(r"\d+", cells[2]):
            kind, text, peer_bytes, peer_kl, own_bytes, own_kl = cells[:6]
            curves.setdefault(("llama.cpp", text), []).append((int(peer_bytes), float(peer_kl), kind))
            curves.setdefault(("Quern", text), []).append((int(own_bytes), float(own_kl), ""))
    return {key: sorted(set(points)) for key, points in curves.items()}  # peers' types of one size have one file of ours


def main():
    model = sys.argv[2]
    curves = read(sys.argv[1], model)
    if not curves:
        raise SystemExit(f"{sys.argv[1]}: no table of {model} found")
    for (who, text), points in curves.items():
        if who == "Quern" and any(a[1] <= b[1] for a, b in zip(points, points[1:])):
            raise SystemExit(f"{text}: more bytes do not always mean less divergence")
    everything = [p for points in curves.values() for p in points]
    low, high = min(p[0] for p in everything), max(p[0] for p in everything)
    margin = (high - low) * 0.04
    low, high = low - margin, high + margin
    bottom = math.floor(math.log10(min(p[1] for p in everything)) * 2) / 2
    top = math.ceil(math.log10(max(p[1] for p in everything)) * 2) / 2 + 0.25
    x = lambda size: LEFT + (size - low) / (high - low) * (WIDTH - LEFT - RIGHT)
    y = lambda kl: TOP + (top - math.log10(kl)) / (top - bottom) * (HEIGHT - TOP - BOTTOM)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for kl in (digit * 10.0 ** power for power in range(-5, 2) for digit in (1, 2, 5)):
        if bottom <= math.log10(kl) <= top:
            out.append(f'<path d="M{LEFT} {y(kl):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/><text x="{LEFT - 8}" y="{y(kl) + 4:.1f}" text-anchor="end">{kl:g}</text>')
    step = next(s for s in (200000, 500000, 1000000, 10000000, 100000000) if (high - low) / s < 12)
    for size in range(int(low // step + 1) * step, int(high) + 1, step):
        out.append(f'<text x="{x(size):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{size / 1e6:.1f}</text>')
    out.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 10}" text-anchor="middle">file, MB</text>'
               f'<text x="{LEFT}" y="18">mean KL divergence from the float model, nats ({model}, weights only)</text>')
    for i, ((who, text), points) in enumerate(sorted(curves.items())):
        colour, dash = COLOURS.get(text, "#333"), ' stroke-dasharray="5 4"' if who != "Quern" else ""
        path = "L".join(f"{x(size):.1f} {y(kl):.1f}" for size, kl, _ in points)
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        for size, kl, label in points:
            out.append(f'<circle cx="{x(size):.1f}" cy="{y(kl):.1f}" r="3" fill="{colour}"/>')
            if label and text == "code":
                out.append(f'<text x="{x(size):.1f}" y="{y(kl) - 8:.1f}" text-anchor="middle" font-size="10">{label}</text>')
        legend = TOP + 14 + 18 * i
        out.append(f'<path d="M{WIDTH - 190} {legend}h30" stroke="{colour}" stroke-width="2"{dash}/>'
                   f'<text x="{WIDTH - 152}" y="{legend + 4}">{who}, {text}</text>')
    print("\n".join(out + ["</svg>"]))


if __name__ == "__main__":
    main()
