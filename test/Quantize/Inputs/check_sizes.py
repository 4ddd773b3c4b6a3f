"""Files of several sizes: check_sizes.py FOLDER SUFFIX SIZE,... COMMAND...

Runs COMMAND with each --size and -o FOLDER/NAME SUFFIX. No file is larger than asked for, not even for a moment, and each comes within
1 % of it or so near that no matrix can take a larger format; more bytes never give a higher expected loss (but for code, which is no loss).
"""
import json, os, re, subprocess, sys, tempfile, time

folder, suffix, sizes, *command = sys.argv[1:]
units = {"": 1, "KB": 1e3, "MB": 1e6, "KiB": 2**10, "MiB": 2**20}
kind = {".gguf": "gguf", ".mlirbc": "ir", "": "executable"}[suffix]
endings = ["", ".weights"] if kind == "ir" else [""]
losses = []


def watched(arguments, out, most):
    """What a command prints. Files of its output's name appear once, whole."""
    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(arguments, stdout=printed, stderr=errors)
        seen = {}
        while process.poll() is None:
            for name in os.listdir(folder):
                if name in [os.path.basename(out) + ending for ending in endings]:
                    status = os.stat(os.path.join(folder, name))
                    assert status.st_size <= most, (name, status.st_size)
                    assert seen.setdefault(name, status.st_ino) == status.st_ino, f"{name} was written twice"
            time.sleep(0.001)
        printed.seek(0), errors.seek(0)
        assert process.returncode == 0, errors.read()
        return json.load(printed)


for text in sizes.split(","):
    number, unit = re.fullmatch(r"([\d.]+)(\w*)", text).groups()
    most = int(float(number) * units[unit])
    out = os.path.join(folder, text + suffix)
    report = watched([*command, "--size", text, "-o", out, "--json"], out, most)
    size = sum(os.path.getsize(out + ending) for ending in endings)
    assert report["written"] == size <= most, (text, size)
    assert report["smallest"][kind] <= size, report["smallest"]
    assert report["tries"] <= (1 if kind == "gguf" else 4), (text, report["tries"])
    steps = [other["bytes"] - t["bytes"] for t in report["tensors"] for other in t["candidates"].values() if other["bytes"] > t["bytes"]]
    # Code of other kernels and its last page take a little, too.
    spare = most - size - (16384 if kind == "executable" else 0)
    assert size >= 0.99 * most or not steps or min(steps) > spare, (text, size, min(steps))
    assert not [name for name in os.listdir(folder) if name.startswith(os.path.basename(out) + ".tmp")]
    losses.append((most, report["expected_loss"]))
    for ending in endings:
        os.remove(out + ending)
losses.sort()
assert kind == "executable" or all(b[1] <= a[1] for a, b in zip(losses, losses[1:])), losses
