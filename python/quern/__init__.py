"""Quern from Python: open model files, convert them, compile them, run what was compiled.

    import quern

    model = quern.open("models/tiny")             # GGUF, .safetensors or a Hugging Face directory
    weights = model["model.norm.weight"]          # a numpy array, decoded to float32
    quern.compile("models/tiny", "tiny.so", emit="shared", format="q8_0")
    program = quern.load("tiny.so")
    print(program.generate("In the beginning", 16))

Errors are RuntimeError with the compiler's one-line message.
"""
from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from . import _quern

# What emitted programs are linked with lies beside this file (installed) or in the build tree.
for _directory in ("lib", "../../lib/quern"):
    _directory = os.path.abspath(os.path.join(os.path.dirname(__file__), _directory))
    if os.path.exists(os.path.join(_directory, "libquern_rt.a")):
        os.environ.setdefault("QUERN_LINK_DIR", _directory)

__all__ = ["Model", "Program", "TokenSequence", "TensorInfo", "compile", "convert", "load", "open", "__version__"]
__version__: str = _quern.version()

Path = str | os.PathLike[str]
Floats = npt.NDArray[np.float32]
#: Called with the phase and the share of it done (0 to 1); returning False cancels.
Progress = Callable[[str, float], bool | None]


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """One stored tensor; no data is read for it."""

    name: str
    file_type: str  #: as the file format calls it: `Q4_K`
    format: str  #: in Quern's algebra: `ui4, scale f16[1x256] * ui6[1x32], ...`
    shape: tuple[int, ...]  #: outermost dimension first
    bytes: int  #: as stored


class Model:
    """An opened model file: a mapping from tensor names to float32 arrays, decoded when asked for."""

    def __init__(self, path: Path) -> None:
        self._model = _quern.Model(os.fspath(path))
        self.tensors: list[TensorInfo] = [TensorInfo(*self._model.tensor(i)) for i in range(self._model.count())]
        self._index = {tensor.name: i for i, tensor in enumerate(self.tensors)}

    def __getitem__(self, name: str) -> Floats:
        return self._model.read(self._index[name])

    def __contains__(self, name: str) -> bool:
        return name in self._index

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self.tensors)

    def inspect(self) -> dict[str, Any]:
        """What `quern inspect --json` prints."""
        return json.loads(self._model.inspect())

    def tokenize(self, text: str) -> list[int]:
        """Token ids; special tokens in the text are recognised, none is added."""
        return self._model.tokenize(text)


def open(path: Path) -> Model:
    """Opens a GGUF file, a .safetensors file or a Hugging Face directory."""
    return Model(path)


def convert(input: Path, output: Path, *, format: str | None = None, dequantize: Literal["f32", "bf16"] | None = None,
            force: bool = False, progress: Progress | None = None) -> list[str]:
    """Converts between GGUF and Hugging Face; returns remarks, such as tensors that could not take the format."""
    return _quern.convert(os.fspath(input), os.fspath(output), format, dequantize, force, progress)


def compile(model: Path, output: Path, *, emit: str = "exe", targets: Sequence[str] = (), format: str | None = None,
            activations: str = "fast", kv_cache: str = "f16", context: int = 0, weights_beside: bool = False,
            force: bool = False, solver: Literal["nearest", "search", "feedback", "descent"] | None = None,
            text: Path | None = None, progress: Progress | None = None) -> list[str]:
    """Compiles a model, as `quern compile` does. `emit="shared"` makes what load() loads. `format` rounds to nearest, or
    with a `solver` after calibrating with a `text` (default: built-in English prose). Returns remarks."""
    return _quern.compile(os.fspath(model), os.fspath(output), emit, ",".join(targets) or None, format, activations,
                          kv_cache, context, weights_beside, force, solver, None if text is None else os.fspath(text),
                          progress)


class TokenSequence:
    """Tokens in the KV cache of a Program. Use as a context manager, or call close()."""

    def __init__(self, program: "Program") -> None:
        self._program = program
        self._id: int | None = program._program.new_sequence()
        self.tokens: list[int] = []

    def append(self, tokens: Sequence[int], all_logits: bool = False) -> Floats:
        """Appends tokens; logits [vocab] after the last, or [len(tokens), vocab] after each."""
        logits = self._program._program.prefill(self._id, list(tokens), all_logits)
        self.tokens += tokens
        return logits

    def rollback(self, length: int) -> None:
        """Forgets all tokens from `length` on."""
        self._program._program.rollback(self._id, length)
        del self.tokens[length:]

    def close(self) -> None:
        if self._id is not None:
            self._program._program.free_sequence(self._id)
            self._id = None

    def __enter__(self) -> "TokenSequence":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Program:
    """A compiled model, loaded from a shared library."""

    def __init__(self, path: Path, *, threads: int = 0, max_sequences: int = 1, huge_pages: bool = False) -> None:
        self._program = _quern.Program(os.path.abspath(os.fspath(path)), threads, max_sequences, huge_pages)

    @property
    def vocab_size(self) -> int:
        return self._program.vocab_size

    @property
    def context(self) -> int:
        return self._program.context

    @property
    def target(self) -> str:
        """The CPU target whose code runs."""
        return self._program.target

    @property
    def metadata(self) -> dict[str, Any]:
        return json.loads(self._program.metadata)

    def tokenize(self, text: str, special: bool = True) -> list[int]:
        """Token ids; with `special`, special tokens are recognised and a BOS is added where the model wants one."""
        return self._program.tokenize(text, special)

    def detokenize(self, ids: Sequence[int]) -> str:
        return b"".join(self._program.token_bytes(i) for i in ids).decode("utf-8", errors="replace")

    def sequence(self) -> TokenSequence:
        """A new, empty sequence in a free slot of the KV cache."""
        return TokenSequence(self)

    def logits(self, tokens: Sequence[int]) -> Floats:
        """[len(tokens), vocab]: row i predicts the token after tokens[i]."""
        with self.sequence() as sequence:
            return sequence.append(tokens, all_logits=True)

    def decode(self, sequences: Sequence[TokenSequence], tokens: Sequence[int]) -> Floats:
        """One step of several sequences at once: logits [len(tokens), vocab]."""
        logits = self._program.decode([s._id for s in sequences], list(tokens))
        for sequence, token in zip(sequences, tokens):
            sequence.tokens.append(token)
        return logits

    def generate(self, prompt: str, max_tokens: int = 64) -> str:
        """Greedy continuation of a prompt, up to the end token."""
        with self.sequence() as sequence:
            logits = sequence.append(self.tokenize(prompt))
            ids: list[int] = []
            while len(ids) < max_tokens:
                token = int(np.argmax(logits))
                if token == self._program.eos:
                    break
                ids.append(token)
                logits = sequence.append([token])
        return self.detokenize(ids)


def load(path: Path, **options: Any) -> Program:
    """Loads what `compile(..., emit="shared")` wrote."""
    return Program(path, **options)
