"""Relations that any correct evaluation has to satisfy."""
import json, sys

load = lambda name: json.load(open(f"{sys.argv[1]}/{name}.json"))
own, q4, q8, self, solved, runtime = (load(n) for n in ("own", "q4", "q8", "self", "solved", "runtime"))
assert abs(self["kl_mean"]) < 1e-6 and self["top1_agreement"] == 1, self
assert 1e-5 < q8["kl_mean"] < 0.002 < q4["kl_mean"] < 0.2, (q8, q4)
assert q8["top1_agreement"] > q4["top1_agreement"]
assert 0 < q4["kl_median"] < q4["kl_mean"] < q4["kl_p99"] <= q4["kl_p999"]
assert 0 < q4["kl_interval"] < q4["kl_mean"]
assert solved["kl_mean"] < 0.75 * q4["kl_mean"], (solved, q4)
# Integer activations add a little of their own.
assert 0.9 * q4["kl_mean"] < own["kl_mean"] < 1.5 * q4["kl_mean"], (own, q4)
assert abs(self["perplexity"] / runtime["perplexity"] - 1) < 1e-4, (self["perplexity"], runtime)
assert self["positions"] == runtime["scored"] and len(q4["window_kl"]) == q4["windows"] == runtime["windows"]
mean = sum(q4["window_kl"]) / q4["windows"]
assert abs(mean / q4["kl_mean"] - 1) < 1e-9
