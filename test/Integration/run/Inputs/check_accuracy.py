"""Measures a model compiled to F32 and to Q8_0 against reference outputs, over a whole text.

usage: check_accuracy.py NAME F32_PROGRAM Q8_0_PROGRAM REFERENCE.json TEXT

REFERENCE.json holds, for the model NAME, the largest logits and greedy tokens after some prompts, and the perplexity of TEXT in windows
(every token of a window but the first is scored), as transformers computes them in float32. F32 must have the logits within 1e-3, the
same greedy tokens, and a perplexity within 0.1 %; Q8_0 a mean KL divergence from F32 of at most 0.002 nats and the same most likely
token at 98 % of the positions.
"""
import json, os, subprocess, sys, tempfile
import numpy as np

name, f32, q8, reference, text = sys.argv[1:]
with open(reference, encoding="utf-8") as file:
    model = json.load(file)["models"][name]


def run(program, *options):
    done = subprocess.run([program, *options, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(f32))) as folder:
    worst = 0
    for prompt in model["prompts"]:
        rows = os.path.join(folder, "rows")
        out = run(f32, prompt["text"], "-n", str(len(prompt["greedy"])), "--ignore-end", "--logits", rows, "--force")
        assert out["prompt_tokens"] == prompt["ids"], prompt["text"]
        assert out["tokens"] == prompt["greedy"], (prompt["text"], out["tokens"], prompt["greedy"])
        last = np.fromfile(rows, "<f4").reshape(len(prompt["ids"]), -1)[-1]
        worst = max([worst] + [abs(float(last[i]) - value) for i, value in prompt["top"]])
    assert worst <= 1e-3, worst
    baseline = os.path.join(folder, "baseline")
    whole = run(f32, "--perplexity", text, "--window", str(model["window"]), "--save-logits", baseline)
    assert (whole["tokens"], whole["windows"]) == (model["tokens"], model["windows"]), whole
    off = whole["perplexity"] / model["perplexity"] - 1
    assert abs(off) <= 1e-3, (whole["perplexity"], model["perplexity"])
    near = run(q8, "--kl", baseline)
    assert near["mean"] <= 0.002 and near["top1_agreement"] >= 0.98, near
print(f"{name}: logits within {worst:.1e}, perplexity {whole['perplexity']:.4f} ({off:+.1e}); "
      f"Q8_0: KL {near['mean']:.5f}, same top token {near['top1_agreement']:.2%}")
