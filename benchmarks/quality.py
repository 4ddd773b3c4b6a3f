"""What the measurements of fidelity share: the peer's files, divergences, and intervals of ratios."""
import ctypes, json, os, random, sys
from engines import QUERN, ROOT, run, silence_llama

sys.path.append(f"{ROOT}/test/Quantize/Inputs")
import statistics_file


def quern(*command, **options):
    return run(QUERN, *command, **options)


def mean_squares(path):
    """{matrix: mean x^2 by column}, from a file of statistics."""
    _, inputs = statistics_file.entries(path)
    return {name: (e["square"] / e["rows"]).tolist() for e in inputs for name in e["names"]}


def peer_file(source, means, kind, path, threads=2):
    """Quantizes with llama.cpp's own quantizer to one of its mixes; NAME-pure: its main type for all tensors."""
    if os.path.exists(path):
        return
    import llama_cpp as lc
    silence_llama()
    params = lc.llama_model_quantize_default_params()
    params.ftype = getattr(lc, "LLAMA_FTYPE_MOSTLY_" + kind.removesuffix("-pure"))
    params.pure = kind.endswith("-pure")
    params.nthread = threads
    arrays = {name: (ctypes.c_float * len(values))(*values) for name, values in means.items()}
    entries = (lc.llama_model_imatrix_data * (len(arrays) + 1))()  # the last one, empty, ends the list
    for entry, (name, array) in zip(entries, arrays.items()):
        entry.name, entry.data, entry.size = name.encode(), ctypes.cast(array, ctypes.POINTER(ctypes.c_float)), len(array)
    params.imatrix = ctypes.cast(entries, ctypes.POINTER(lc.llama_model_imatrix_data))
    failed = lc.llama_model_quantize(source.encode(), (path + ".part").encode(), params)
    if failed:
        raise SystemExit(f"{source}: llama.cpp cannot quantize it to {kind}")
    os.rename(path + ".part", path)


def evaluate(model, other, text, window, tokens, *options):
    """The report of `quern evaluate`."""
    limit = ["--tokens", str(tokens)] if tokens else []
    return json.loads(quern("evaluate", model, other, "--text", text, "--window", str(window), "--json", *limit, *options))


def cached(path, make):
    """What `make` returns, kept as JSON at `path`."""
    if not os.path.exists(path):
        value = make()
        with open(path + ".part", "w") as file:
            json.dump(value, file)
        os.rename(path + ".part", path)
    with open(path) as file:
        return json.load(file)


def interval(ours, theirs, rounds=2000):
    """The ratio of means over windows, and its 2.5 % and 97.5 % when windows are drawn again."""
    generator, n, ratios = random.Random(1), len(ours), []
    for _ in range(rounds):
        picks = generator.choices(range(n), k=n)
        ratios.append(sum(ours[i] for i in picks) / sum(theirs[i] for i in picks))
    ratios.sort()
    return sum(ours) / sum(theirs), ratios[int(0.025 * rounds)], ratios[int(0.975 * rounds)]


def is_compressor(kind):
    """gptq-128, awq-32, ...: of llm-compressor, at 4 bits in groups of so many; the table of embeddings stays as it is."""
    return kind.startswith(("gptq-", "awq-"))


class Setting:
    """A model, its texts, and a folder with what is made once: statistics, the float GGUF file, the peer's files."""

    def __init__(self, args):
        self.args = args
        os.makedirs(args.scratch, exist_ok=True)
        self.statistics, self.source = f"{args.scratch}/statistics.qst", f"{args.scratch}/float.gguf"
        limit = ["--tokens", str(args.calibration_tokens)] if args.calibration_tokens else []
        if not os.path.exists(self.statistics):
            quern("calibrate", args.model, "--text", args.calibration, "--window", str(args.window), "-o", self.statistics, *limit)
        if not os.path.exists(self.source):
            quern("convert", args.model, self.source)
        self.means = None

    def peer(self, kind):
        path = f"{self.args.scratch}/peer-{kind}.gguf"
        self.means = self.means or mean_squares(self.statistics)
        peer_file(self.source, self.means, kind, path)
        return path

    def compressed(self, kind):
        """A directory with what the weights of llm-compressor decode to, and what it stores: {"matrices_bytes", ...}."""
        folder, (method, group) = f"{self.args.scratch}/peer-{kind}", kind.split("-")
        limit = ["--tokens", str(self.args.calibration_tokens)] if self.args.calibration_tokens else []
        command = [f"{ROOT}/benchmarks/gptq.py", self.args.model, self.args.calibration, folder, "--method", method, "--group", group]
        made = cached(folder + ".size.json", lambda: json.loads(run(os.environ.get("COMPRESSOR_PYTHON", sys.executable), *command, "--window",
                                                                    str(self.args.window), *limit).splitlines()[-1]))
        return folder, made

    def peer_report(self, kind, text):
        name = f"{self.args.scratch}/peer-{kind}-{os.path.basename(text)}.json"
        return cached(name, lambda: evaluate(self.args.model, self.compressed(kind)[0] if is_compressor(kind) else self.peer(kind), text, self.args.window, self.args.tokens))

    def quantize(self, path, *options):
        """Writes Quern's file; the report."""
        statistics = [] if "--statistics" in options else ["--statistics", self.statistics]
        return json.loads(quern("quantize", self.args.model, "-o", path, "--text", self.args.calibration, "--force", "--json", *statistics, *options))

    def evaluate(self, path, text, *options):
        return evaluate(self.args.model, path, text, self.args.window, self.args.tokens, *options)


def add_arguments(parser):
    parser.add_argument("--model", default=f"{ROOT}/models/tiny")
    parser.add_argument("--calibration", required=True, help="text for both")
    parser.add_argument("--calibration-tokens", type=int, help="of it, spread over it (default: all)")
    parser.add_argument("--text", action="append", required=True)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--tokens", type=int, help="of each text, spread over it (default: all)")
    parser.add_argument("--scratch", default="/tmp/quern-fidelity")
    parser.add_argument("--json")
