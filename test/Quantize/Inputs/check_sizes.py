"""Files of several sizes: check_sizes.py FOLDER SUFFIX SIZE,... COMMAND...

Runs COMMAND with each --size and -o FOLDER/NAME SUFFIX. No file is larger than asked for, and each comes within 1 % of it or so
near that no matrix can take a larger format; more bytes never give a higher expected loss.
"""
import json, os, re, subprocess, sys

folder, suffix, sizes, *command = sys.argv[1:]
units = {"": 1, "KB": 1e3, "MB": 1e6, "KiB": 2**10, "MiB": 2**20}
losses = []
for text in sizes.split(","):
    number, unit = re.fullmatch(r"([\d.]+)(\w*)", text).groups()
    most = int(float(number) * units[unit])
    out = os.path.join(folder, text + suffix)
    run = subprocess.run([*command, "--size", text, "-o", out, "--json"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    report, size = json.loads(run.stdout), os.path.getsize(out)
    assert report["written"] == size <= most, (text, size)
    assert report["smallest"]["gguf"] <= (size if suffix else report["smallest"]["executable"]), report["smallest"]
    steps = [other["bytes"] - t["bytes"] for t in report["tensors"] for other in t["candidates"].values() if other["bytes"] > t["bytes"]]
    # Code of other kernels and its last page take a little, too.
    spare = most - size - (0 if suffix else 16384)
    assert size >= 0.99 * most or not steps or min(steps) > spare, (text, size, min(steps))
    losses.append((most, report["expected_loss"]))
    os.remove(out)
losses.sort()
assert all(b[1] <= a[1] for a, b in zip(losses, losses[1:])), losses
