"""A model compiled with `quern compile --emit=shared`, driven through its C interface (include/quern/Runtime/quern.h)."""
import ctypes, os, subprocess
import numpy as np


class Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("message", ctypes.c_char * 508)]


class Options(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("payload_path", ctypes.c_char_p), ("target", ctypes.c_char_p), ("threads", ctypes.c_int32),
                ("max_sequences", ctypes.c_int32), ("huge_pages", ctypes.c_int32), ("pin_threads", ctypes.c_int32)]


class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("vocab_size", "width", "context", "max_tokens", "max_sequences", "threads", "bos", "eos")] + [
        ("target", ctypes.c_char_p), ("metadata", ctypes.c_char_p)]


def compile_shared(model, out, *options):
    subprocess.run(["quern", "compile", model, "--emit=shared", "-o", out, "--force", *options], check=True, stdout=subprocess.DEVNULL)
    return out


class Model:
    """Logits come as float64 arrays [tokens, vocabulary]."""

    def __init__(self, path, sequences=1, threads=2, target=None):
        self.lib = ctypes.CDLL(os.path.abspath(path))
        options = Options()
        self.lib.quern_default_options(ctypes.byref(options))
        options.threads, options.max_sequences = threads, sequences
        options.target = target.encode() if target else None
        self.model, self.error = ctypes.c_void_p(), Error()
        self.check(self.lib.quern_load(ctypes.byref(options), ctypes.byref(self.model), ctypes.byref(self.error)))
        self.info = Info()
        self.lib.quern_model_info(self.model, ctypes.byref(self.info))

    def check(self, status):
        if status != 0:
            raise RuntimeError(f"status {status}: {self.error.message.decode()}")

    def new(self):
        sequence = ctypes.c_int32()
        self.check(self.lib.quern_sequence_new(self.model, ctypes.byref(sequence), ctypes.byref(self.error)))
        return sequence.value

    def free(self, sequence):
        self.check(self.lib.quern_sequence_free(self.model, sequence, ctypes.byref(self.error)))

    def prefill(self, sequence, tokens):
        tokens = np.ascontiguousarray(tokens, np.int32)
        logits = np.full((len(tokens), self.info.vocab_size), np.nan, np.float32)
        self.check(self.lib.quern_prefill_all(self.model, sequence, tokens.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(len(tokens)),
                                              logits.ctypes.data_as(ctypes.c_void_p), ctypes.byref(self.error)))
        return logits.astype(np.float64)

    def decode(self, sequences, tokens):
        sequences, tokens = np.array(sequences, np.int32), np.array(tokens, np.int32)
        logits = np.full((len(tokens), self.info.vocab_size), np.nan, np.float32)
        self.check(self.lib.quern_decode(self.model, ctypes.c_size_t(len(tokens)), sequences.ctypes.data_as(ctypes.c_void_p),
                                         tokens.ctypes.data_as(ctypes.c_void_p), logits.ctypes.data_as(ctypes.c_void_p), ctypes.byref(self.error)))
        return logits.astype(np.float64)

    def chunks(self, tokens, sizes):
        """Logits of the tokens taken in chunks of these sizes, over and over."""
        sequence, parts, at, i = self.new(), [], 0, 0
        while at < len(tokens):
            size = sizes[i % len(sizes)]
            parts.append(self.prefill(sequence, tokens[at:at + size]))
            at, i = at + size, i + 1
        self.free(sequence)
        return np.concatenate(parts)

    def one_by_one(self, tokens):
        sequence = self.new()
        rows = [self.decode([sequence], [t]) for t in tokens]
        self.free(sequence)
        return np.concatenate(rows)

    def close(self):
        self.lib.quern_free(self.model)
