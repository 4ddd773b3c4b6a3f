"""Gives bad input to quern and to a program it makes. Usage: bad_input.py MODEL SCRATCH

Each case is a command and what its one line of complaint must say. The folder is compared before and
after: a command that fails leaves no output, not even a part of one.
"""
import json, os, resource, shutil, signal, struct, subprocess, sys

model, scratch = os.path.abspath(sys.argv[1]), sys.argv[2]
os.chdir(scratch)
failures = []


def listing():
    found = {}
    for folder, _, names in os.walk("."):
        for name in names:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            found[path] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def refused(expected, *command, stdin=b"", file_size=None, memory=None):
    """The command fails with one line that contains `expected` and changes no file."""

    def limit():
        if file_size is not None:  # as a full disk: writing beyond it is an error
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
        if memory is not None:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    before = listing()
    run = subprocess.run(command, input=stdin, capture_output=True, preexec_fn=limit)
    lines = run.stderr.decode().splitlines()
    complaint = None
    if run.returncode not in (1, 2, 3):
        complaint = f"status {run.returncode}"
    elif len(lines) != 1 or "error: " not in lines[0]:
        complaint = f"{len(lines)} lines on standard error"
    elif expected not in lines[0]:
        complaint = "another message"
    elif listing() != before:
        complaint = f"changed {set(listing().items()) ^ set(before.items())}"
    if complaint:
        failures.append(f"{' '.join(command)}\n  expected: {expected}\n  {complaint}: {run.stderr.decode()[:400]}")


def write(path, data):
    if os.path.dirname(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "wb" if isinstance(data, bytes) else "w").write(data)


def variant(name, drop=(), **files):
    """A copy of the model with other contents of some files (None: without)."""
    os.makedirs(name)
    for entry in os.listdir(model):
        if entry.endswith((".json", ".safetensors")) and entry not in drop:
            os.symlink(os.path.join(model, entry), os.path.join(name, entry))
    for entry, data in files.items():
        entry = entry.replace("_json", ".json")
        os.unlink(os.path.join(name, entry))
        write(os.path.join(name, entry), data)
    return name


def string(text):
    return struct.pack("<Q", len(text)) + text.encode()


def gguf(*keys, tensors=b"", count=0):
    return b"GGUF" + struct.pack("<IQQ", 3, count, len(keys)) + b"".join(keys) + tensors


def text_key(name, value):
    return string(name) + struct.pack("<I", 8) + string(value)


config = json.load(open(os.path.join(model, "config.json")))
safetensors = open(os.path.join(model, "model.safetensors"), "rb").read()

#===--- Models no command can read ----------------------------------------===#

write("empty", b"")
write("text", b"just text")
write("cut.gguf", gguf(text_key("general.architecture", "llama"))[:-3])
write("version.gguf", b"GGUF" + struct.pack("<IQQ", 9, 0, 0))
write("bert.gguf", gguf(text_key("general.architecture", "bert")))
write("newline.gguf", gguf(text_key("a\nb\x1b[2J", "x"), text_key("a\nb\x1b[2J", "x")))
write("outside.gguf", gguf(text_key("general.architecture", "llama"), count=1,
                           tensors=string("t") + struct.pack("<IQIQ", 1, 1 << 40, 0, 0)))
write("m-00001-of-00002.gguf", gguf(string("split.count") + struct.pack("<IH", 2, 2)))
variant("gptq", config_json=json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
variant("unknown", config_json=json.dumps(config | {"model_type": "mamba"}))
variant("wide", config_json=json.dumps(config | {"hidden_size": 2 * config["hidden_size"]}))
variant("deep", config_json="[" * 100000)
variant("bare", drop=("model.safetensors",))
variant("cut", drop=("model.safetensors",))
write("cut/model.safetensors", safetensors[:-100])
variant("shards", drop=("model.safetensors",))
write("shards/model.safetensors.index.json", '{"weight_map": {"x": "model-00001.safetensors"}}')

models = [
    ("absent: No such file", "absent"),
    ("empty: neither GGUF", "empty"),
    ("text: neither GGUF", "text"),
    ("has a length of 5, but only 2 bytes are left", "cut.gguf"),
    ("version 9 is not supported; expected 2 or 3", "version.gguf"),
    ("metadata key 'a\\nb\\u001b[2J' occurs twice", "newline.gguf"),
    ("outside.gguf: GGUF: tensor 't' needs 4398046511104 bytes", "outside.gguf"),
    ("m-00002-of-00002.gguf: No such file", "m-00001-of-00002.gguf"),
    ("the weights are quantized with 'gptq'", "gptq"),
    ("nested deeper than", "deep"),
    ("ends at byte", "cut"),
    ("model-00001.safetensors: No such file", "shards"),
]
architectures = [
    ("unknown architecture 'bert'; known: llama", "bert.gguf"),
    ("unknown architecture 'mamba'; known: llama", "unknown"),
]
for expected, name in models:
    refused(expected, "quern", "inspect", name)
for expected, name in models[2:5]:
    refused(expected, "quern", "convert", name, "out")
for expected, name in models[3:9:4] + architectures + [("model.embed_tokens.weight", "wide")]:
    refused(expected, "quern", "compile", name, "-o", "out")
for expected, name in models[:1] + architectures[:1]:
    refused(expected, "quern", "interpret", name, "--tokens", "1")
for expected, name in architectures[1:]:
    refused(expected, "quern", "convert", name, "out.gguf")

#===--- Tokenizers ---------------------------------------------------------===#

tokens = string("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 1) + string("a")
merges = string("tokenizer.ggml.merges") + struct.pack("<IIQ", 9, 8, 0)
write("pre.gguf", gguf(text_key("tokenizer.ggml.model", "gpt2"), tokens, merges,
                       text_key("tokenizer.ggml.pre", "viking")))
write("none.gguf", gguf(text_key("general.architecture", "llama")))
variant("precompiled", tokenizer_json='{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},'
                                      ' "normalizer": {"type": "Precompiled"}}')
refused("'viking'", "quern", "tokenize", "pre.gguf", "x")
refused("no tokenizer: tokenizer.ggml.model is missing", "quern", "tokenize", "none.gguf", "x")
refused("normalizer 'Precompiled' is not supported; known:", "quern", "tokenize", "precompiled", "x")
refused("'x' is no token id", "quern", "tokenize", model, "x", "--decode")
refused("line 1 of the input is no JSON string", "quern", "tokenize", model, "--strings", stdin=b"{")
refused("nested deeper than", "quern", "tokenize", model, "--chat", stdin=b"[" * 100000)

#===--- Outputs ------------------------------------------------------------===#

write("old", "old")
write("folder/old", "old")
refused("'old' exists; give --force to overwrite it", "quern", "compile", model, "-o", "old")
refused("'folder' is a directory", "quern", "compile", model, "-o", "folder")
refused("there is no folder 'no/such/folder'", "quern", "compile", model, "-o", "no/such/folder/out")
refused("File too large", "quern", "compile", model, "-o", "out", "--target", "native", file_size=1 << 20)
refused("'out.gguf'", "quern", "convert", model, "out.gguf", file_size=1 << 16)
refused("cannot write", "quern", "convert", model, "out", file_size=1 << 16)
refused("out.safetensors", "quern", "convert", model, "out.safetensors", file_size=1 << 16)
refused("'folder' exists; give --force to overwrite it", "quern", "convert", model, "folder")
refused("'old' exists and is not a directory", "quern", "convert", model, "old")
refused("is the input", "quern", "convert", model + "/model.safetensors", model + "/model.safetensors")
refused("no/such", "quern", "convert", model, "no/such/out.gguf")
refused("'old' exists; give --force", "quern", "interpret", model, "--tokens", "1", "--logits", "old")
refused("cannot dequantize to 'f64'; expected f32 or bf16", "quern", "convert", model, "out", "--dequantize", "f64")
refused("GGUF has no type 'q9_0'; it has F32", "quern", "convert", model, "out.gguf", "--format", "q9_0")
refused("q9_0", "quern", "compile", model, "-o", "out", "--format", "q9_0")
refused("z80", "quern", "compile", model, "-o", "out", "--target", "z80")
refused("--context", "quern", "compile", model, "-o", "out", "--context", "0")
refused("999999", "quern", "interpret", model, "--tokens", "999999")

#===--- An emitted program -------------------------------------------------===#

subprocess.run(["quern", "compile", model, "--format", "q8_0", "--target", "native", "-o", "m"], check=True,
               stdout=subprocess.DEVNULL)
program = open("m", "rb").read()
size = len(program)


def damaged(name, change):
    """The program with some bytes changed."""
    data = bytearray(program)
    change(data)
    write(name, bytes(data))
    os.chmod(name, 0o755)
    return "./" + name


def flip(at):
    def change(data):
        data[at] ^= 0x40
    return change


# include/quern/Runtime/Payload.h: tokenizer, chat format and metadata are one packed stream.
footer = size - (24 + 16 * 5 + 24)
weights, (packed, packed_size) = (struct.unpack_from("<QQ", program, footer + 24 + 16 * i) for i in (0, 4))
assert packed_size
refused("holds no model", damaged("d1", lambda d: d.__delitem__(slice(-1000, None))), "x", "-n", "1")
refused("holds no model", damaged("d2", flip(footer)), "x", "-n", "1")
refused("payload version", damaged("d3", flip(footer + 8)), "x", "-n", "1")
refused("footer is damaged", damaged("d4", flip(footer + 26)), "x", "-n", "1")
refused("footer is damaged", damaged("d5", flip(size - 20)), "x", "-n", "1")
refused("the file has", damaged("d6", lambda d: d.__setitem__(slice(footer, footer), bytes(4096))), "x", "-n", "1")
for part in (1, 2, 3):
    refused("the payload is damaged", damaged(f"c{part}", flip(packed + packed_size * part // 4)), "x", "-n", "1")
refused("the weights are damaged", damaged("w", flip(weights[0] + 1000)), "x", "-n", "1", "--verify")
refused("payload is damaged", "quern", "inspect", "c1")
refused("footer is damaged", "quern", "inspect", "d4")
for name in os.listdir("."):
    if len(name) == 2 and name[0] in "dc" or name == "w":
        os.unlink(name)

write("prompt", "In the beginning God created the heaven and the earth. " * 60)
refused("absent: cannot open: No such file", "./m", "-f", "absent")
refused("context overflow", "./m", "In", "-n", "100000")
refused("context overflow", "./m", "-f", "prompt", "-n", "1")
refused("memory", "./m", "In", "-n", "1", "--threads", "1", memory=(6 << 20) + size)
refused("no/such", "./m", "In", "-n", "1", "--logits", "no/such/file")
refused("old: exists; give --force to overwrite it", "./m", "In", "-n", "1", "--logits", "old")
refused("old: exists; give --force", "./m", "--perplexity", "prompt", "--save-logits", "old")
refused("rows: cannot write", "./m", "In the beginning", "-n", "1", "--logits", "rows", file_size=4096)
refused("base: cannot write", "./m", "--perplexity", "prompt", "--window", "64", "--windows", "1", "--save-logits", "base", file_size=1 << 16)

subprocess.run(["./m", "--perplexity", "prompt", "--window", "64", "--windows", "1", "--save-logits", "base"], check=True,
               stdout=subprocess.DEVNULL)
base = open("base", "rb").read()
magic, vocab, window, prefix, reserved, windows = struct.unpack_from("<8sIIIIQ", base)


def baseline(expected, data):
    write("bad", bytes(data))
    refused(expected, "./m", "--kl", "bad")


def header(**fields):
    values = dict(vocab=vocab, window=window, prefix=prefix, windows=windows) | fields
    return struct.pack("<8sIIIIQ", magic, values["vocab"], values["window"], values["prefix"], 0, values["windows"]) + base[32:]


baseline("is not a baseline written by --save-logits", b"")
baseline("is not a baseline written by --save-logits", b"QUERNLP2" + base[8:])
baseline("has a vocabulary of 7, this model of", header(vocab=7))
baseline("is damaged or was cut off", base[:-1])
baseline("is damaged or was cut off", header(windows=0))
baseline("is damaged or was cut off", header(window=1))
baseline("is damaged or was cut off", header(windows=(1 << 64) - 1))
baseline("is damaged or was cut off", header(windows=1 << 62, window=1 << 31))
baseline("was made with another BOS setting", header(prefix=prefix + 3))
baseline("holds token -1, which does not exist", base[:32] + b"\xff" * 4 + base[36:])
refused("absent: cannot open", "./m", "--kl", "absent")
refused("is not a baseline", "./m", "--kl", ".")

for failure in failures:
    print(failure, file=sys.stderr)
sys.exit(len(failures) > 0)
