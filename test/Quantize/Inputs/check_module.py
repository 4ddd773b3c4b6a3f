"""The same assignment as GGUF, IR, a program compiled from the IR and an executable: one divergence."""
import json
import sys

folder, *names = sys.argv[1:]
mean = {name: json.load(open(f"{folder}/{name}.json"))["kl_mean"] for name in names}
first = mean[names[0]]
assert first > 0.001, mean
for name, value in mean.items():
    assert abs(value - first) < 1e-6, mean
