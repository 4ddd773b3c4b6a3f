"""Real vocabularies from GGUF to tokenizer.json (checked with the tokenizers package) and back (checked with quern tokenize).
usage: convert_vocab.py SCRATCH SHARED"""
import os, shutil, subprocess, sys
import gguf
from tokenizers import Tokenizer

scratch, shared = sys.argv[1], sys.argv[2]
shutil.rmtree(scratch, ignore_errors=True)
os.makedirs(scratch)
for name in ("llama-spm", "llama-bpe", "qwen2", "deepseek-coder"):
    vocab = os.path.join(shared, "vocab", name + ".gguf")
    directory, again = os.path.join(scratch, name), os.path.join(scratch, name + ".gguf")
    subprocess.run(["quern", "convert", vocab, directory], check=True)
    tokenizer = Tokenizer.from_file(os.path.join(directory, "tokenizer.json"))
    texts = open(vocab + ".inp", newline="").read().split("\n__ggml_vocab_test__\n")
    expected = [[int(i) for i in line.split()] for line in open(vocab + ".out").read().splitlines()]
    assert len(texts) == len(expected) > 40
    for text, ids in zip(texts, expected):
        assert tokenizer.encode(text, add_special_tokens=False).ids == ids, (name, text)
    subprocess.run(["quern", "convert", directory, again], check=True)
    old = {k: f.contents() for k, f in gguf.GGUFReader(vocab).fields.items()}
    new = {k: f.contents() for k, f in gguf.GGUFReader(again).fields.items()}
    assert new["tokenizer.ggml.tokens"] == old["tokenizer.ggml.tokens"], name
    assert new["tokenizer.ggml.pre"] == old["tokenizer.ggml.pre"], (name, new["tokenizer.ggml.pre"])
    for text, ids in list(zip(texts, expected))[::5]:
        found = subprocess.run(["quern", "tokenize", again, "-"], input=text.encode(), capture_output=True, check=True).stdout
        assert [int(i) for i in found.split()] == ids, (name, text, found)
    print(name, "ok")
