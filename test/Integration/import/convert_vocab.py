"""Real vocabularies from GGUF to tokenizer.json (checked with the tokenizers package) and back (checked with quern tokenize).
usage: convert_vocab.py SCRATCH SHARED"""
import json, os, shutil, subprocess, sys
from tokenizers import Tokenizer

scratch, shared = sys.argv[1], sys.argv[2]
shutil.rmtree(scratch, ignore_errors=True)
os.makedirs(scratch)
for name in ("llama-spm", "llama-bpe", "qwen2", "deepseek-coder"):
    vocab = os.path.join(shared, "vocab", name + ".gguf")
    directory, again = os.path.join(scratch, name), os.path.join(scratch, name + ".gguf")
    subprocess.run(["quern", "convert", vocab, directory], check=True)
    tokenizer = Tokenizer.from_file(os.path.join(directory, "tokenizer.json"))
    texts = open(vocab + ".inp", newline="").read().split("\n__ggml_vocab_test__\n")[:-1]
    expected = [[int(i) for i in line.split()] for line in open(vocab + ".out").read().splitlines()]
    assert len(texts) == len(expected) > 40
    for text, ids in zip(texts, expected):
        assert tokenizer.encode(text, add_special_tokens=False).ids == ids, (name, text)
    subprocess.run(["quern", "convert", directory, again], check=True)
    old, new = (json.loads(subprocess.run(["quern", "inspect", "--json", "--full", f], capture_output=True, check=True).stdout)["metadata"]
                for f in (vocab, again))
    assert new["tokenizer.ggml.tokens"] == old["tokenizer.ggml.tokens"], name
    assert new["tokenizer.ggml.pre"] == old["tokenizer.ggml.pre"], (name, new["tokenizer.ggml.pre"])
    for text, ids in list(zip(texts, expected))[4::14]:
        found = subprocess.run(["quern", "tokenize", again, "-"], input=text.encode(), capture_output=True, check=True).stdout
        assert [int(i) for i in found.split()] == ids, (name, text, found)
    print(name, "ok")
