"""Compiles a model and compares its logits with the reference interpreter's.

usage: check.py MODEL WORK_DIR [--golden FILE] [--tokens N] [--activations A] [--kv-cache T] [--format F] [--target T] [--passes P]

The same tokens go through the program as one prefill, one by one, in odd chunks, and as two sequences that advance together; with
every way the logits must be those of `quern interpret` on the same IR. With f32 activations and cache a difference is rounding
alone, and --golden (a fixture's golden.safetensors) is compared too.

Other activation and cache types round values to a few bits, where a difference of one f32 ulp can tip a value to the next code
and move all that follows. So there the limits over a long text are wide, and many short sequences are run besides: most rows
of them meet no such tie and must agree as closely as with f32. A kernel that computes something else has no such row.
"""
import argparse, os, subprocess, sys
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "architectures")]
from compiled import Model, compile_shared
from hf_to_gguf import read_safetensors

# (largest difference, root mean square), both over the deviation of the logits.
EXACT, WIDE = (1e-4, 1e-5), (0.5, 0.05)
SHORT, SHARE = 3, 0.5  # tokens of a short sequence, and the share of rows that must be exact

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("work")
parser.add_argument("--golden")
parser.add_argument("--tokens", type=int, default=70)
parser.add_argument("--activations", default="f32")
parser.add_argument("--kv-cache", default="f32")
parser.add_argument("--format")
parser.add_argument("--target", default="native")
parser.add_argument("--passes")
args = parser.parse_args()
os.makedirs(args.work, exist_ok=True)
at = lambda name: os.path.join(args.work, name)

options = ["--activations", args.activations, "--kv-cache", args.kv_cache]
if args.format:
    options += ["--format", args.format]
if args.passes:
    options += ["--passes", args.passes]
subprocess.run(["quern", "compile", args.model, "--emit=mlir", "-o", at("model.mlir"), "--force", *options], check=True, stdout=subprocess.DEVNULL)
model = Model(compile_shared(args.model, at("model.so"), "--target", args.target, *options), sequences=2)

if args.golden:
    golden = read_safetensors(args.golden)
    tokens = golden["tokens"].tolist()
else:
    tokens = np.random.default_rng(1).integers(0, model.info.vocab_size, min(args.tokens, model.info.context)).tolist()


def interpret(*options):
    subprocess.run(["quern", "interpret", at("model.mlir"), "--tokens", ",".join(map(str, tokens)), "--logits", at("logits.npy"), "--force", *options],
                   check=True, stdout=subprocess.DEVNULL)
    return np.load(at("logits.npy")).astype(np.float64)


expected = interpret()
deviation = expected.std()
exact = args.kv_cache == "f32" and args.activations == "f32"
failed = False


def compare(name, found, wanted=expected, limits=EXACT if exact else WIDE):
    global failed
    error = (found - wanted) / deviation
    worst, rms = np.abs(error).max(), np.sqrt((error ** 2).mean())
    ok = found.shape == wanted.shape and worst <= limits[0] and rms <= limits[1]  # false for NaN
    row, column = np.unravel_index(np.abs(error).argmax(), error.shape)
    print(f"{'ok  ' if ok else 'FAIL'} {name}: largest {worst:.3g} (row {row}, token {column}), root mean square {rms:.3g}")
    failed |= not ok


compare("one prefill", model.chunks(tokens, [len(tokens)]))
compare("one by one", model.one_by_one(tokens))
compare("odd chunks", model.chunks(tokens, [3, 1, 7, 2, 17]))

if not exact:
    parts = interpret("--split", str(SHORT))
    found = np.concatenate([model.chunks(tokens[i:i + SHORT], [SHORT]) for i in range(0, len(tokens), SHORT)])
    compare("short sequences", found, parts)
    share = (np.abs(found - parts).max(axis=1) <= EXACT[0] * deviation).mean()
    print(f"{'ok  ' if share >= SHARE else 'FAIL'} short sequences: {share:.0%} of rows exact")
    failed |= share < SHARE

# Two sequences in step, the second with its halves swapped; what one holds must not reach the other.
half = len(tokens) // 2
other = tokens[half:] + tokens[:half]
alone = model.chunks(other, [len(other)])
a, b, rows = model.new(), model.new(), []
for pair in zip(tokens, other):
    rows.append(model.decode([a, b], pair))
both = np.stack(rows, axis=1)
compare("two sequences, first", both[0])
compare("two sequences, second", both[1], alone)
if args.golden and exact and not args.format:
    compare("golden", both[0][golden["positions"]], golden["logits"].astype(np.float64))
model.close()
sys.exit(int(failed))
