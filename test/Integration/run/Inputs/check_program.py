"""Checks an emitted program against what transformers computes.

usage: check_program.py PROGRAM REFERENCE.json TEXT [--logits TOLERANCE] [--perplexity SHARE]
"""
import argparse, json, os, subprocess, tempfile
import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("program")
parser.add_argument("reference")
parser.add_argument("text")
parser.add_argument("--logits", type=float, default=1e-3)
parser.add_argument("--perplexity", type=float, default=1e-3)
args = parser.parse_args()
reference = json.load(open(args.reference))


def run(*options):
    done = subprocess.run([args.program, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


with tempfile.TemporaryDirectory() as folder:
    rows = os.path.join(folder, "rows")
    for prompt in reference["prompts"]:
        out = run(prompt["text"], "-n", str(len(prompt["greedy"])), "--json", "--force", "--logits", rows)
        assert out["prompt_tokens"] == prompt["ids"], (out["prompt_tokens"], prompt["ids"])
        last = np.fromfile(rows, dtype="<f4").reshape(len(prompt["ids"]), -1)[-1]
        worst = max(abs(float(last[i]) - v) for i, v in prompt["top"])
        assert worst <= args.logits, f"{prompt['text']!r}: a logit is off by {worst}"
        assert abs(float(last.mean()) - prompt["mean"]) <= args.logits
        assert out["tokens"] == prompt["greedy"], (prompt["text"], out["tokens"], prompt["greedy"])
        # Token by token must be the same as at once.
        slow = run("--tokens", ",".join(map(str, prompt["ids"][:1])), "-n", "0", "--json")
        assert slow["tokens"] == []

    for p in reference["perplexity"]:
        out = run("--perplexity", args.text, "--window", str(p["window"]), "--json")
        assert out["windows"] == p["windows"] and out["tokens"] == p["tokens"], out
        off = abs(out["perplexity"] / p["value"] - 1)
        assert off <= args.perplexity, f"perplexity {out['perplexity']}, expected {p['value']}"

    # A model diverges from itself by nothing.
    baseline = os.path.join(folder, "baseline")
    first = run("--perplexity", args.text, "--windows", "2", "--save-logits", baseline, "--json")
    same = run("--kl", baseline, "--json")
    assert abs(same["mean"]) < 1e-5 and same["top1_agreement"] > 0.999, same
    assert abs(same["perplexity"] / first["perplexity"] - 1) < 1e-6, (same, first)

    # Embeddings: of the last token, and the mean.
    ids = ",".join(map(str, reference["prompts"][0]["ids"]))
    last = run("--embed", "--tokens", ids, "--json")["embedding"]
    mean = run("--embed", "--tokens", ids, "--pooling", "mean", "--json")["embedding"]
    assert len(last) == len(mean) and last != mean and any(last)
