"""A program's code is packed, what is damaged in it is noticed, and no page is writable and executable.
usage: check_packed.py PLAIN PACKED, programs of the same model in q8_0"""
import ctypes
import json
import os
import subprocess
import sys
import time

plain, packed = (open(path, "rb").read() for path in sys.argv[1:3])
info = subprocess.run([sys.argv[2], "--info", "--json"], capture_output=True, check=True).stdout
weights = json.loads(info)["program"]["weight_bytes"]
extra = len(packed) - weights
assert 0 < extra < 140_000, extra  # for three targets
assert len(plain) - weights > 150_000

# Messages lie packed: they are not found in the file, and the program prints them.
text = b"Continues a text. Without a prompt"
assert text in plain and text not in packed
help_ = subprocess.run([sys.argv[2], "--help"], capture_output=True, check=True).stdout
assert text in help_

# The packed code is most of what lies before the weights: change bytes in its midst.
damaged = bytearray(packed)
for i in range(40_000, 40_400):
    damaged[i] ^= 0x55
path = sys.argv[2] + ".damaged"
with open(path, "wb") as file:
    file.write(damaged)
os.chmod(path, 0o755)
result = subprocess.run([path, "--help"], capture_output=True)
assert result.returncode == 1 and b"the program's code is damaged" in result.stderr, result

# While it waits for its prompt: code in memory of its own, and nothing both writable and executable.
waiting = subprocess.Popen([sys.argv[2], "-f", "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
for _ in range(500):
    maps = [line.split() for line in open(f"/proc/{waiting.pid}/maps")]
    if any(fields[1] == "r-xp" and len(fields) == 5 for fields in maps):  # of no file: it has begun
        break
    time.sleep(0.01)
else:
    raise AssertionError(maps)
assert not any("wx" in fields[1] for fields in maps), maps
waiting.kill()
waiting.wait()

# Where the kernel refuses to make memory executable (PR_SET_MDWE, since Linux 6.3), a message says so.
libc = ctypes.CDLL(None)
result = subprocess.run([sys.argv[2], "--help"], capture_output=True,
                        preexec_fn=lambda: libc.prctl(65, 1, 0, 0, 0))
known = "import ctypes; exit(ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) != 0)"
if subprocess.run([sys.executable, "-c", known]).returncode == 0:
    assert result.returncode == 1 and b"--code plain" in result.stderr, result
