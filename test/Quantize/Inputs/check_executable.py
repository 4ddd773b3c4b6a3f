"""An executable's weights are the file's, its engine that of the compiled file."""
import json, sys

file, weights, own, compiled, floor = (json.load(open(f"{sys.argv[1]}/{n}.json")) for n in ("file", "weights", "own", "compiled", "floor"))
assert weights["window_kl"] == file["window_kl"], (weights["kl_mean"], file["kl_mean"])
assert abs(own["kl_mean"] - compiled["kl_mean"]) < 1e-5, (own["kl_mean"], compiled["kl_mean"])
assert own["window_kl"] != weights["window_kl"] and 0.8 < own["kl_mean"] / weights["kl_mean"] < 1.3
assert 0 < floor["kl_mean"] < 0.02 * file["kl_mean"], floor["kl_mean"]
low, high = own["perplexity_ratio_interval"]
assert low <= own["perplexity_ratio"] <= high
assert len(file["position_kl"]) == 127 and abs(sum(file["position_kl"]) / 127 / file["kl_mean"] - 1) < 1e-9
