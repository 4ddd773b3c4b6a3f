"""Predictions of one text by several engines: programs of Quern, and GGUF files in llama.cpp (llama-cpp-python)."""
import ctypes, functools, os, struct, subprocess

try:
    import numpy as np
except ImportError:
    raise SystemExit("numpy is missing: use a Python with what benchmarks/requirements.txt lists, as `benchmarks/run` makes one in its scratch"
                     " folder (quern-benchmarks/venv/bin/python)")

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
QUERN = os.environ.get("QUERN", f"{ROOT}/build/bin/quern")


def run(*command, **options):
    result = subprocess.run(command, capture_output=True, text=True, **options)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)}\n{result.stdout}{result.stderr}")
    return result.stdout


def log_softmax(rows):
    rows = rows.astype(np.float64)
    rows -= rows.max(-1, keepdims=True)
    return rows - np.log(np.exp(rows).sum(-1, keepdims=True))


class Predictions:
    """What --save-logits wrote: `tokens` [windows, window], `prefix` tokens in front of each window, and a window's
    log-probabilities [window - 1, vocabulary] by its number."""

    def __init__(self, path):
        magic, vocabulary, window, self.prefix, _, windows = struct.unpack_from("<8sIIIIQ", open(path, "rb").read(32))
        assert magic == b"QUERNLP1", path
        self.tokens = np.fromfile(path, np.int32, windows * window, offset=32).reshape(windows, window)
        row = np.dtype([("range", "<f4", 2), ("codes", "<u2", vocabulary)])
        self.rows = np.memmap(path, row, "r", 32 + self.tokens.nbytes, (windows, window - 1))

    def __getitem__(self, window):
        rows = self.rows[window]
        return log_softmax(rows["range"][:, :1] + rows["range"][:, 1:] * rows["codes"])


def program_predictions(program, text, window, windows, path):
    """Of an executable, over the first windows of a text."""
    run(program, "--perplexity", text, "--window", str(window), "--windows", str(windows), "--save-logits", path, "--force")
    return Predictions(path)


def compiled_program(model, folder, *options):
    """A program for this machine, with the options."""
    program = f"{folder}/program"
    run(QUERN, "compile", model, "--target", "native", "-o", program, "--force", *options)
    return program


def compiled_predictions(model, text, window, windows, folder, *options):
    return program_predictions(compiled_program(model, folder, *options), text, window, windows, f"{folder}/predictions")


def float_predictions(model, text, window, windows, path):
    """Of a float model, all in f32; kept at `path`."""
    if not os.path.exists(path):
        run(QUERN, "compile", model, "--format", "f32", "--activations", "f32", "--kv-cache", "f32", "--target", "native", "-o", f"{path}.program", "--force")
        program_predictions(f"{path}.program", text, window, windows, f"{path}.part")
        os.rename(f"{path}.part", path)
        os.remove(f"{path}.program")
    return Predictions(path)


@functools.cache
def silence_llama():
    """Takes llama.cpp's log, for good; what this returns must live as long as the process."""
    import llama_cpp as lc
    quiet = lc.llama_log_callback(lambda level, text, data: None)
    lc.llama_log_set(quiet, ctypes.c_void_p(0))
    return quiet


class LlamaCpp:
    """A GGUF file in llama.cpp, over the tokens of other predictions."""

    def __init__(self, path, like, text):
        import llama_cpp as lc
        silence_llama()
        size = like.tokens.shape[1] + like.prefix
        self.model = lc.Llama(path, n_ctx=size, n_batch=size, logits_all=True, verbose=False, n_threads=2)
        self.tokens, self.prefix = like.tokens, like.prefix
        theirs = self.model.tokenize(open(text, "rb").read(), add_bos=False, special=False)[: like.tokens.size]
        if theirs != like.tokens.reshape(-1).tolist():
            raise SystemExit(f"{path}: llama.cpp cuts the text into other tokens")

    def __getitem__(self, window):
        tokens = self.tokens[window].tolist()
        self.model.reset()
        self.model.eval([self.model.token_bos()] * self.prefix + tokens[:-1])
        return log_softmax(self.model.scores[self.prefix : self.prefix + len(tokens) - 1])


def divergence(p, q):
    """KL(p || q) of each position, from log-probabilities."""
    return (np.exp(p) * (p - q)).sum(-1)
