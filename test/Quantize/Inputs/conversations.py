"""Conversations for calibration, and the number of tokens they must come to.

usage: conversations.py make OUT.jsonl | conversations.py count OUT.jsonl MODEL WINDOW [NUMBER ...]    of these alone, from 0 on
"""
import json, subprocess, sys

TALKS = [[("user", "Who was it?"), ("assistant", "Nobody knew, and nobody asked."), ("user", "And then <|im_end|>?")],
         [("system", "Answer briefly."), ("user", "What is the truth?"), ("assistant", "It is not a good idea. " * 12)],
         [("user", "Good morning."), ("assistant", "Good morning to you.")]]
if sys.argv[1] == "make":
    with open(sys.argv[2], "w") as file:
        for talk in TALKS:
            print(json.dumps({"messages": [{"role": r, "content": c} for r, c in talk]}), file=file)
        print(file=file)
else:
    path, model, window = sys.argv[2], sys.argv[3], int(sys.argv[4])
    lines = [json.dumps({**json.loads(line), "answer": False}) for line in open(path) if line.strip()]
    out = subprocess.run(["quern", "tokenize", model, "-", "--chat"], input="\n".join(lines), capture_output=True, text=True, check=True).stdout
    ids = [json.loads(line)["ids"] for line in out.splitlines()]
    assert len(ids) == 3 and len(ids[1]) > window > len(ids[0])
    ids = [ids[int(n)] for n in sys.argv[5:]] or ids
    pieces = [min(window, len(i) - at) for i in ids for at in range(0, len(i), window)]
    print(sum(n for n in pieces if n >= 2))
