"""Compiles one model in several formats and compares each program's logits with the reference interpreter's.

usage: formats.py MODEL WORK_DIR FORMAT[/ACTIVATIONS]...      ACTIVATIONS: f32 unless given; check.py says why others need short sequences
"""
import os, platform, subprocess, sys
import numpy as np
from compiled import Model, compile_shared

model, work, cases = sys.argv[1], sys.argv[2], sys.argv[3:]
os.makedirs(work, exist_ok=True)
ir, program, logits = (os.path.join(work, name) for name in ("model.mlir", "model.so", "logits.npy"))
EXACT = 1e-4  # of a row, over the deviation of the logits
SHORT = 3     # tokens of a sequence, so that few rows come after a tie that rounded the other way
ROUNDED = 0.1 # where a unit that multiplies bf16 rounds weights, too
failed = False


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


for number, case in enumerate(cases):
    spelling, _, activations = case.partition("/")
    activations = activations or "f32"
    options = ["--format", spelling, "--activations", activations, "--kv-cache", "f32"]
    run("quern", "compile", model, "--emit=mlir", "-o", ir, "--force", *options)
    tokens = np.random.default_rng(number).integers(0, 256, 24).tolist() # which every vocabulary has
    run("quern", "interpret", ir, "--tokens", ",".join(map(str, tokens)), "--split", str(SHORT), "--logits", logits, "--force")
    expected = np.load(logits).astype(np.float64)
    parts = [tokens[i:i + SHORT] for i in range(0, len(tokens), SHORT)]
    for target in ("native", "x86-64-v3") if activations == "bf16" and platform.machine() == "x86_64" else ("native",):
        # A path of its own each time: a library that is loaded once is not loaded again.
        path = f"{program}.{number}.{target}"
        compiled = Model(compile_shared(model, path, "--target", target, *options), threads=1)
        for way, take in (("at once", lambda part: compiled.chunks(part, [SHORT])), ("one by one", compiled.one_by_one)):
            found = np.concatenate([take(part) for part in parts])
            error = np.abs(found - expected).max(axis=1) / expected.std()
            share = (error <= EXACT).mean()  # false for NaN
            ok = share == 1 if activations == "f32" else share >= 0.5
            if activations == "bf16" and target == "native":
                ok = error.max() < ROUNDED
            print(f"{'ok  ' if ok else 'FAIL'} {case}, {target}, {way}: largest {error.max():.3g}, {share:.0%} of rows exact")
            failed |= not ok
        compiled.close()
        os.remove(path)
sys.exit(int(failed))
