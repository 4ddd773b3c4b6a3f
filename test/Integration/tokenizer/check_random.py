"""Compares `quern tokenize` with the `tokenizers` package on random Unicode strings.

Small tokenizers of every supported kind are trained here, saved as tokenizer.json and, where GGUF
can hold them, as a vocabulary in a GGUF file; both must give the reference's ids.

usage: check_random.py WORKING_DIRECTORY [STRINGS]
"""
import json
import os
import random
import sys
import unicodedata

import gguf
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, trainers)

from check_ids import compare, quern_ids

SPACE = "\u2581"
CORPUS = [
    "The quick brown fox jumps over the lazy dog. It's what they'd said, isn't it? We'll see; I've no idea.",
    "Pack my box with five dozen liquor jugs! 1234567890 12 345 6789, 3.14159 and 2,718,281.",
    "def main(argv):\n    for i in range(10):\n\t\tprint(f\"{i}: {argv[i]}\")\n\n\nreturn 0;  // done   here",
    "Der größte Fluß übte Zauber — \u201cschön\u201d, naïve café, Ærøskøbing, Łódź, İstanbul, ﬁnal ﬀ",
    "Широкая электрификация южных губерний даст мощный толчок. Съешь ещё этих мягких французских булок.",
    "我想在苹果工作吗？他们在北京的大学里学习计算机科学。日本語のテスト、カタカナ ひらがな 한국어 문장입니다",
    "שלום עולם مرحبا بالعالم नमस्ते दुनिया สวัสดีชาวโลก Καλημέρα κόσμε ὕδωρ ១២៣ ४५६ ٣٤٥",
    "😀 🚀👩‍👩‍👧‍👦 🇩🇪 ✅ e\u0301 a\u030a \u1112\u1161\u11ab o\u0302\u0323 ½ ² Ⅷ ① ｆｕｌｌ ｗｉｄｔｈ",
] * 4


def random_string(r):
    """Awkward text: words, scripts, marks, controls, unassigned code points, long runs."""
    def code_points(first, last, n):
        return "".join(chr(r.randint(first, last)) for _ in range(n))

    def anything():
        c = r.randint(0, 0x10FFFF)
        return chr(c) if not 0xD800 <= c < 0xE000 else "\uFFFD"

    kinds = [
        lambda: r.choice(r.choice(CORPUS).split()),
        lambda: " " + r.choice(r.choice(CORPUS).split()),
        lambda: r.choice(["'s", "'T", "'re", "'LL", "'\u017f", "'d", "don't", "I'M", "’s"]),
        lambda: str(r.randint(0, 10 ** r.randint(1, 12))),
        lambda: "".join(r.choice(" \t\n\r\v\f\u00a0\u3000\u2003\u0085\u2028") for _ in range(r.randint(1, 6))),
        lambda: r.choice([" ", "\n", "\t", "\r\n"]) * r.randint(1, 9),
        lambda: code_points(0, 0x7F, r.randint(1, 8)),
        lambda: code_points(0x80, 0x24F, r.randint(1, 6)),
        lambda: code_points(0x300, 0x36F, r.randint(1, 4)),
        lambda: r.choice("aeoAEOα") + code_points(0x300, 0x345, r.randint(1, 3)),
        lambda: code_points(0x370, 0x52F, r.randint(1, 6)),
        lambda: code_points(0x590, 0x7FF, r.randint(1, 6)),
        lambda: code_points(0x900, 0xDFF, r.randint(1, 6)),
        lambda: code_points(0x1100, 0x11FF, r.randint(1, 4)),
        lambda: code_points(0x3000, 0x30FF, r.randint(1, 5)),
        lambda: code_points(0x4E00, 0x9FFF, r.randint(1, 6)),
        lambda: code_points(0xAC00, 0xD7A3, r.randint(1, 4)),
        lambda: code_points(0xF900, 0xFFEF, r.randint(1, 4)),
        lambda: code_points(0x1F300, 0x1FAFF, r.randint(1, 3)),
        lambda: "\u200d".join(code_points(0x1F466, 0x1F469, 1) for _ in range(r.randint(2, 4))),
        lambda: code_points(0x2000, 0x2BFF, r.randint(1, 4)),
        lambda: "".join(anything() for _ in range(r.randint(1, 4))),
        lambda: chr(r.choice([0x31350, 0x2EBF0, 0x105C0, 0x11F50, 0x1E4F0, 0x378, 0xE0001, 0x10FFFF, 0x0])),
        lambda: r.choice("aA0.- 中\n😀") * r.choice([3, 17, 100, 700]),
        lambda: r.choice(["<|user|>\n", "<|assistant|> \n\n", "<|end|>\n", "<|end|>", "<|end|", "<mask>", " <mask> ", "<word>", "a<word>b", SPACE, "<unk>", "<0x41>"]),
        lambda: "".join(r.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") for _ in range(r.randint(1, 6))),
    ]
    return "".join(r.choice(kinds)() for _ in range(r.randint(0, 9)))


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def byte_level(use_regex=True):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def cased_letters():
    """The letters of deepseek-llm's expression: those with case, but for blocks it leaves out."""
    without = [(0x2D00, 0x2D2D), (0xA790, 0xA7FA), (0xAB30, 0xAB68), (0x10570, 0x105BC), (0x16E40, 0x16E7F),
               (0x1D400, 0x1D7CB), (0x1DF00, 0x1DF2F)]
    letters = [c for c in range(0x110000) if unicodedata.category(chr(c)) in ("Lu", "Ll", "Lt")
               and not any(a <= c <= b for a, b in without)]
    ranges = []
    for c in letters:
        if ranges and ranges[-1][1] == c - 1:
            ranges[-1][1] = c
        else:
            ranges.append([c, c])
    return "".join(f"\\x{{{a:X}}}-\\x{{{b:X}}}" for a, b in ranges)


CJK = "[一-龥ࠀ-一가-퟿]+"
#: GGUF's name -> (normalizer, what the models' own tokenizer.json declares)
PRE = {
    "gpt-2": (None, [byte_level()]),
    "llama-bpe": (None, [split(LLAMA3), byte_level(False)]),
    "qwen2": (normalizers.NFC(), [split(LLAMA3.replace("{1,3}", "")), byte_level(False)]),
    "smollm": (None, [pre_tokenizers.Digits(True), byte_level()]),
    "starcoder": (None, [pre_tokenizers.Digits(True), byte_level()]),
    "refact": (None, [pre_tokenizers.Digits(True), byte_level()]),
    "mpt": (normalizers.NFC(), [byte_level()]),
    "falcon": (None, [pre_tokenizers.Punctuation("contiguous"), byte_level(),
                      pre_tokenizers.Digits(False), split("[0-9][0-9][0-9]")]),
    "deepseek-coder": (None, [split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(CJK),
                              pre_tokenizers.Digits(True), byte_level(False)]),
    "deepseek-llm": (None, [split("[\r\n]"), split(r"\s?[" + cased_letters() + "]+"),
                            split(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"), split(r"\s+$"), split(CJK),
                            pre_tokenizers.Digits(False), byte_level(False)]),
}


def byte_bpe(normalizer, pre):
    t = Tokenizer(models.BPE())
    if normalizer:
        t.normalizer = normalizer
    t.pre_tokenizer = pre_tokenizers.Sequence(pre)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        special_tokens=["<|end|>"]))
    return t


def sentencepiece_bpe(prefix=True, marks=()):
    """As llama's: characters, U+2581 for spaces, bytes for what is unknown. Gemma puts no space in front; Phi 3 drops white
    space after its marks of turns."""
    t = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    space = normalizers.Replace(" ", SPACE)
    t.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), space]) if prefix else space
    if not prefix: # what gemma's file says; after its normalizer there are no spaces
        t.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    t.train_from_iterator([c for c in CORPUS if ord(c[0]) < 128], trainers.BpeTrainer(
        vocab_size=700, show_progress=False,
        special_tokens=["<unk>", "<|end|>", *marks] + [f"<0x{b:02X}>" for b in range(256)]))
    doc = json.loads(t.to_str())
    doc["added_tokens"] = doc["added_tokens"][:2 + len(marks)] # bytes are part of the model, not special
    if marks:
        for token in doc["added_tokens"][1:]:
            token["rstrip"] = True
    doc["decoder"] = json.loads(decoders_json(prefix))
    return Tokenizer.from_str(json.dumps(doc))


def decoders_json(prefix):
    t = Tokenizer(models.BPE())
    t.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
                                  + [decoders.Strip(" ", 1, 0)] * prefix)
    return json.dumps(json.loads(t.to_str())["decoder"])


def unigram(byte_fallback, normalizer, scheme):
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizer
    t.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme=scheme)
    t.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme=scheme)
    special = ["<unk>", "<|end|>"] + ([f"<0x{b:02X}>" for b in range(256)] if byte_fallback else [])
    t.train_from_iterator(CORPUS[:4], trainers.UnigramTrainer(
        vocab_size=400 + len(special), show_progress=False, unk_token="<unk>", special_tokens=special))
    doc = json.loads(t.to_str())
    doc["added_tokens"] = doc["added_tokens"][:2]
    doc["model"]["byte_fallback"] = byte_fallback
    return Tokenizer.from_str(json.dumps(doc))


def with_added_tokens():
    t = byte_bpe(normalizers.Lowercase(), [pre_tokenizers.Digits(True), byte_level()])
    t.add_special_tokens([AddedToken("<mask>", lstrip=True, rstrip=True, normalized=False)])
    t.add_tokens([AddedToken("<word>", single_word=True, normalized=False),
                  AddedToken("BROWN Fox", normalized=True), AddedToken("  ", normalized=False),
                  AddedToken("the", single_word=True, normalized=True), AddedToken("中中", lstrip=True)])
    return t


def other_steps():
    """Steps the named ones do not use."""
    t = byte_bpe(normalizers.Sequence([normalizers.NFD(), normalizers.Strip(), normalizers.Replace(Regex(r"\s{2,}"), " "), normalizers.Replace("--", "–")]),
                 [pre_tokenizers.Whitespace(), pre_tokenizers.Split("e", "merged_with_previous"),
                  pre_tokenizers.Split("o", "merged_with_next"), pre_tokenizers.Split(Regex(r"\w+"), "removed", invert=True),
                  byte_level(False)])
    return t


def write_vocabulary(path, tokenizer, pre):
    """The tokenizer as a GGUF file without tensors. `pre`: of byte-level ones; of others an architecture after a colon."""
    pre, _, architecture = pre.partition(":")
    doc = json.loads(tokenizer.to_str())
    model = doc["model"]
    ids = {i: t for t, i in model["vocab"].items()}
    tokens = [ids[i] for i in range(len(ids))]
    w = gguf.GGUFWriter(path, architecture or "llama")
    added = {a["content"] for a in doc["added_tokens"]}
    types = []
    for t in tokens:
        types.append(2 if t == "<unk>" else 3 if t in added else 6 if t.startswith("<0x") and not pre else 1)
    if pre:
        w.add_tokenizer_model("gpt2")
        w.add_tokenizer_pre(pre)
        w.add_token_merges([" ".join(m) if isinstance(m, list) else m for m in model["merges"]])
    else:
        w.add_tokenizer_model("llama")
        w.add_tokenizer_pre("default")
        w.add_add_space_prefix(architecture != "gemma3")
        rank = {}
        for i, m in enumerate(model["merges"]):
            rank.setdefault("".join(m if isinstance(m, list) else m.split(" ")), i)
        w.add_token_scores([-float(rank.get(t, 10 ** 6)) for t in tokens])
    w.add_token_list([t.encode() for t in tokens])
    w.add_token_types(types)
    w.add_bos_token_id(1)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()


def main():
    folder, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 200
    r = random.Random(20240607)
    strings = ["", " ", "\n", *CORPUS[:8], *(random_string(r) for _ in range(count))]
    cases = {f"pre-{name}": (byte_bpe(*how), name) for name, how in PRE.items()}
    cases["sentencepiece"] = sentencepiece_bpe(), ""
    cases["gemma"] = sentencepiece_bpe(prefix=False), ":gemma3"
    cases["phi-3"] = sentencepiece_bpe(marks=["<|user|>", "<|assistant|>"]), ":phi3"
    nfkc = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    cases["unigram"] = unigram(False, nfkc, "always"), None
    cases["unigram-bytes"] = unigram(True, normalizers.NFKD(), "first"), None
    cases["added"] = with_added_tokens(), None
    cases["steps"] = other_steps(), None
    # The reference's marks are those of an older Unicode; on European text they agree.
    accents = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.NFC()])
    cases["accents"] = byte_bpe(accents, [byte_level()]), None
    ok = True
    for name, (tokenizer, pre) in cases.items():
        # The reference's unigram model takes a byte token written out in the text for that byte;
        # SentencePiece does not, nor do we.
        texts = [t for t in strings if "<0x" not in t or name != "unigram-bytes"]
        if name == "accents":
            texts = [t for t in texts if all(ord(c) < 0x370 for c in t)]
        expected = [tokenizer.encode(t, add_special_tokens=False).ids for t in texts]
        os.makedirs(f"{folder}/{name}", exist_ok=True)
        tokenizer.save(f"{folder}/{name}/tokenizer.json")
        ok &= compare(name, texts, expected, quern_ids(f"{folder}/{name}/tokenizer.json", texts))
        if pre is not None:
            write_vocabulary(f"{folder}/{name}.gguf", tokenizer, pre)
            ok &= compare(name + " (GGUF)", texts, expected, quern_ids(f"{folder}/{name}.gguf", texts))
    sys.exit(not ok)


if __name__ == "__main__":
    main()
