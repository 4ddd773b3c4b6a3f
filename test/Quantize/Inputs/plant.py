"""Plants outliers into a Hugging Face llama model.

usage: plant.py MODEL OUT (channels | token | rotated | control) [LAYERS]

LAYERS: only the first so many are kept, for tests of weights rather than of results.

channels: a few channels of whatever enters a product are x30 to x300, and the columns that read
          them divided by as much. The model computes what it did.
token:    in front of every down projection one neuron is tens of thousands for BOS and 0 for all others, and the first
          writes that to a channel of the stream that is the first token's alone: what others attend
          to, as in large models. The head is untied. The result is a model of its own.
rotated:  the residual stream in the basis of its weights' principal directions, where few
          channels hold most of the energy; norm gains folded, head untied. It computes what it did.
control:  as it is.

All tensors are written as F32, so that nothing but the planting differs.
"""
import json
import os
import shutil
import sys

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

TYPES = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32}


def load(folder):
    with open(os.path.join(folder, "model.safetensors"), "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        data = f.read()
    header.pop("__metadata__", None)
    return {name: np.frombuffer(data[slice(*info["data_offsets"])], TYPES[info["dtype"]])
            .reshape(info["shape"]).astype(np.float64) for name, info in header.items()}


class Model:
    def __init__(self, folder, layers=None):
        self.config = json.load(open(os.path.join(folder, "config.json")))
        self.w = load(folder)
        if layers:
            self.config["num_hidden_layers"] = int(layers)
            self.w = {n: w for n, w in self.w.items() if not n.startswith("model.layers.") or int(n.split(".")[2]) < int(layers)}
        self.rng = np.random.default_rng(1)
        self.tokenizer = {}  # changes to its configuration

    def layers(self):
        return [f"model.layers.{i}." for i in range(self.config["num_hidden_layers"])]

    def spikes(self, count):
        """Factors, most of them 1."""
        f = np.ones(count)
        f[self.rng.choice(count, max(2, count // 64), replace=False)] *= \
            10 ** self.rng.uniform(np.log10(30), np.log10(300), max(2, count // 64))
        return f

    def channels(self):
        w, c = self.w, self.config
        group = c["num_attention_heads"] // c["num_key_value_heads"]
        for p in self.layers():
            for norm, readers in (("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
                                  ("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj"))):
                f = self.spikes(c["hidden_size"])
                w[p + norm + ".weight"] = w[p + norm + ".weight"] * f
                for r in readers:
                    w[p + r + ".weight"] = w[p + r + ".weight"] / f
            f = self.spikes(c["intermediate_size"])
            w[p + "mlp.up_proj.weight"] = w[p + "mlp.up_proj.weight"] * f[:, None]
            w[p + "mlp.down_proj.weight"] = w[p + "mlp.down_proj.weight"] / f
            f = self.spikes(c["num_key_value_heads"] * c["head_dim"])
            w[p + "self_attn.v_proj.weight"] = w[p + "self_attn.v_proj.weight"] * f[:, None]
            f = np.repeat(f.reshape(-1, c["head_dim"]), group, axis=0).reshape(-1)
            w[p + "self_attn.o_proj.weight"] = w[p + "self_attn.o_proj.weight"] / f

    def token(self):
        w, c = self.w, self.config
        table = w["model.embed_tokens.weight"]
        w["lm_head.weight"] = table.copy()
        c["tie_word_embeddings"] = False
        self.tokenizer = {"add_bos_token": True}
        mark, sink = self.rng.choice(c["hidden_size"], 2, replace=False)
        table[:, [mark, sink]] = 0
        table[c["bos_token_id"], mark] = 10 * np.abs(table).max()
        for i, p in enumerate(self.layers()):
            for writer in ("self_attn.o_proj", "mlp.down_proj"):
                w[p + writer + ".weight"][[mark, sink]] = 0
            # One neuron sees the first token alone: where that is all of the stream, silu(256) x 256.
            neuron, seen = self.rng.integers(c["intermediate_size"]), sink if i else mark
            gain = w[p + "post_attention_layernorm.weight"][seen]
            for reader in ("mlp.gate_proj", "mlp.up_proj"):
                w[p + reader + ".weight"][neuron] = 0
                w[p + reader + ".weight"][neuron, seen] = 256 / (gain * np.sqrt(c["hidden_size"]))
            w[p + "mlp.down_proj.weight"][:, neuron] = 0
            w[p + "mlp.down_proj.weight"][sink, neuron] = 0 if i else 1 / 64

    def rotated(self):
        w = self.w
        energy = sum(m @ m.T for p in self.layers()
                     for m in (w[p + "self_attn.o_proj.weight"], w[p + "mlp.down_proj.weight"]))
        table = w["model.embed_tokens.weight"]
        energy = energy + table.T @ table
        q = np.linalg.eigh(energy)[1]
        for p in self.layers():
            for norm, readers in (("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
                                  ("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj"))):
                for r in readers:
                    w[p + r + ".weight"] = (w[p + r + ".weight"] * w[p + norm + ".weight"]) @ q
                w[p + norm + ".weight"] = np.ones(len(q))
            for r in ("self_attn.o_proj", "mlp.down_proj"):
                w[p + r + ".weight"] = q.T @ w[p + r + ".weight"]
        w["lm_head.weight"] = (table * w["model.norm.weight"]) @ q
        w["model.norm.weight"] = np.ones(len(q))
        w["model.embed_tokens.weight"] = table @ q
        self.config["tie_word_embeddings"] = False

    def control(self):
        pass


def main(source, out, what, layers=None):
    model = Model(source, layers)
    getattr(model, what)()
    os.makedirs(out, exist_ok=True)
    for name in os.listdir(source):
        if name.endswith(".json"):
            shutil.copy(os.path.join(source, name), out)
    path = os.path.join(out, "tokenizer_config.json")
    tokenizer = json.load(open(path))
    json.dump({**tokenizer, **model.tokenizer}, open(path, "w"))
    model.config["dtype"] = "float32"
    json.dump(model.config, open(os.path.join(out, "config.json"), "w"))
    save_file({k: np.ascontiguousarray(v, dtype=np.float32) for k, v in model.w.items()},
              os.path.join(out, "model.safetensors"))


if __name__ == "__main__":
    main(*sys.argv[1:])
