"""Compares `quern interpret --json` outputs with the reference outputs of a model (made with transformers in float32).

usage: check_reference.py REFERENCE.json ids N          the token ids of prompt N, comma-separated
       check_reference.py REFERENCE.json check N OUT    OUT: what `interpret --json --top 64 -n 24` printed for it
"""
import json, sys

TOLERANCE = 1e-3

reference, command, number, *rest = sys.argv[1:]
prompt = json.load(open(reference))["prompts"][int(number)]
if command == "ids":
    print(",".join(map(str, prompt["ids"])))
    sys.exit()
found = json.load(open(rest[0]))
logits = dict(map(tuple, found["top"]))
worst = 0
for token, expected in prompt["top"]:
    if token not in logits:
        sys.exit(f"token {token}, expected among the largest with {expected}, is not among the largest {len(logits)}")
    worst = max(worst, abs(logits[token] - expected))
if worst > TOLERANCE:
    sys.exit(f"logits differ by {worst:.3g}; {TOLERANCE:g} is allowed")
if found["generated"] != prompt["greedy"]:
    sys.exit(f"greedy tokens differ: expected {prompt['greedy']}, found {found['generated']}")
print(f"largest difference {worst:.3g}")
