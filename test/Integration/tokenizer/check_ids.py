"""Compares `quern tokenize` with reference ids: shared/vocab and shared/models/reference.json.

usage: check_ids.py vocab DIR NAME | check_ids.py reference FILE NAME MODEL
"""
import json
import subprocess
import sys


def quern_ids(model, texts, *options):
    """The ids of each text, from one run."""
    lines = "".join(json.dumps(t, ensure_ascii=False) + "\n" for t in texts)
    run = subprocess.run(["quern", "tokenize", model, "-", "--strings", *options],
                         input=lines.encode(), stdout=subprocess.PIPE, check=True)
    return [[int(i) for i in line.split()] for line in run.stdout.decode().split("\n")[:-1]]


def compare(name, texts, expected, found):
    assert len(expected) == len(found) == len(texts), (len(texts), len(expected), len(found))
    wrong = [(t, e, f) for t, e, f in zip(texts, expected, found) if e != f]
    for text, want, got in wrong[:5]:
        print(f"{name}: {text!r}\n  expected {want}\n  found    {got}")
    print(f"{name}: {len(texts) - len(wrong)} of {len(texts)} texts have the reference ids")
    return not wrong


def main():
    if sys.argv[1] == "vocab":
        path = f"{sys.argv[2]}/{sys.argv[3]}.gguf"
        with open(path + ".inp", encoding="utf-8", newline="") as f:
            texts = f.read().split("\n__ggml_vocab_test__\n")
        with open(path + ".out", encoding="utf-8") as f:
            expected = [[int(i) for i in line.split()] for line in f.read().split("\n")]
        ok = compare(sys.argv[3], texts, expected[:len(texts)], quern_ids(path, texts))
    else:
        with open(sys.argv[2], encoding="utf-8") as f:
            cases = json.load(f)["models"][sys.argv[3]]["tokenization"]
        texts = [c["text"] for c in cases]
        ok = compare(sys.argv[3], texts, [c["ids"] for c in cases], quern_ids(sys.argv[4], texts))
    sys.exit(not ok)


if __name__ == "__main__":
    main()
