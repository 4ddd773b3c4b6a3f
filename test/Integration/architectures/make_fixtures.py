#!/usr/bin/env python3
"""Writes the fixtures of this folder: a small random model of each architecture with golden logits from transformers.

usage: make_fixtures.py [NAME ...]      needs: torch transformers tokenizers safetensors; a few seconds a model

Each NAME/ is a Hugging Face directory as users have them, with golden.safetensors beside the weights: `tokens` [T],
`positions` [P] and `logits` [P, vocabulary] in f32 after those positions. Weights are bf16 and scaled so that attention is
peaked; norms and biases are random; the sequence is longer than any sliding window. Every feature listed with a model is then
left out in turn: the script fails unless that moves some logit by at least 10 tolerances, so that a test on the golden logits
fails when an importer or an architecture forgets the feature.
"""
import copy, json, math, os, shutil, sys
os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models as token_models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
TOLERANCE = 2e-4  # what compare_logits.py allows, absolute; the logits' deviation is about 3
MARGIN = 10
LENGTH = 32
POSITIONS = [0, 1, 5, 10, 16, 23, 30, 31]
VOCAB = 272
LIMIT = 200_000  # bytes a file

COMMON = dict(vocab_size=VOCAB, max_position_embeddings=64, bos_token_id=270, eos_token_id=271, pad_token_id=None)

# name -> configuration, style ("v4" or "v5": whose config.json it is written as), features to leave out.
# A feature is a key of FEATURES below.
MODELS = {
    "llama": dict(
        config=dict(model_type="llama", hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=6,
                    num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-5, max_position_embeddings=128, tie_word_embeddings=False,
                    rope_parameters=dict(rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0,
                                         high_freq_factor=4.0, original_max_position_embeddings=64)),
        style="v5", features=["norm gains", "rope scaling", "rope theta", "rope pairing", "grouped heads", "gate", "own output matrix"]),
    "mistral": dict(
        config=dict(model_type="mistral", hidden_size=40, intermediate_size=72, num_hidden_layers=2, num_attention_heads=4,
                    num_key_value_heads=2, head_dim=16, sliding_window=8, tie_word_embeddings=False,
                    rope_parameters=dict(rope_type="default", rope_theta=1000.0)),
        style="v4", features=["norm gains", "sliding window", "window one more", "rope theta", "rope pairing", "grouped heads", "gate"]),
    "qwen2": dict(
        config=dict(model_type="qwen2", hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=3,
                    num_key_value_heads=1, tie_word_embeddings=True, use_sliding_window=False,
                    rope_parameters=dict(rope_type="default", rope_theta=1000.0)),
        style="v4", features=["norm gains", "query bias", "key bias", "value bias", "rope theta", "rope pairing", "gate"]),
    "qwen3": dict(
        config=dict(model_type="qwen3", hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
                    num_key_value_heads=2, head_dim=24, tie_word_embeddings=True, use_sliding_window=False,
                    rope_parameters=dict(rope_type="default", rope_theta=1000.0)),
        style="v5", features=["norm gains", "query norm", "key norm", "rope theta", "rope pairing", "grouped heads", "gate"]),
    "qwen3moe": dict(
        config=dict(model_type="qwen3_moe", hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
                    num_key_value_heads=2, head_dim=16, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=40,
                    norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[], tie_word_embeddings=False,
                    use_sliding_window=False, rope_parameters=dict(rope_type="default", rope_theta=1000.0)),
        style="v4", shard="60KB",
        features=["norm gains", "query norm", "key norm", "router", "expert normalisation", "experts used", "grouped heads"]),
    "gemma3": dict(
        config=dict(model_type="gemma3_text", hidden_size=32, intermediate_size=48, num_hidden_layers=6, num_attention_heads=4,
                    num_key_value_heads=2, head_dim=16, sliding_window=8, query_pre_attn_scalar=24, tie_word_embeddings=True,
                    layer_types=["sliding_attention"] * 5 + ["full_attention"],
                    rope_parameters=dict(sliding_attention=dict(rope_type="default", rope_theta=100.0),
                                         full_attention=dict(rope_type="linear", rope_theta=1000.0, factor=4.0))),
        style="v4", features=["norm gains", "unit offset", "embedding scale", "sliding window", "window one more", "global layers", "global rope",
                              "rope scaling", "post norms", "query norm", "key norm", "attention scale", "tanh GELU"]),
    "phi3": dict(
        config=dict(model_type="phi3", hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=3,
                    num_key_value_heads=1, sliding_window=12, original_max_position_embeddings=16, tie_word_embeddings=False,
                    rope_parameters=dict(rope_type="longrope", rope_theta=1000.0, partial_rotary_factor=0.75,
                                         original_max_position_embeddings=16, short_factor=[1.0, 1.1, 1.2, 1.3, 1.5, 1.7],
                                         long_factor=[1.0, 1.4, 1.9, 2.3, 3.1, 4.2])),
        style="v4", features=["norm gains", "sliding window", "long factors", "attention factor", "partial rotation", "gate order", "rope theta"]),
}


def randomize(model, seed):
    """Peaked attention, random norms and biases, logits of deviation about 3."""
    generator = torch.Generator().manual_seed(seed)
    normal = lambda p, mean, deviation: p.copy_(mean + deviation * torch.randn(p.shape, generator=generator))
    with torch.no_grad():
        for name, p in model.named_parameters():
            gemma = model.config.model_type.startswith("gemma")
            if name.endswith("norm.weight"):
                center = 0.0 if gemma else 1.0
                normal(p, center + (0.5 if "q_norm" in name or "k_norm" in name else 0.0), 0.3)
            elif name.endswith("bias"):
                normal(p, 0, 1.0)
            elif "embed_tokens" in name:
                normal(p, 0, 0.5 if model.config.tie_word_embeddings else 1.0)
            else:
                gain = 1.0
                if any(key in name for key in ("q_proj", "k_proj", "qkv_proj")):
                    gain = 1.8
                elif "lm_head" in name:
                    gain = 3.0
                elif "gate.weight" in name:
                    gain = 1.5
                normal(p, 0, gain / math.sqrt(p.shape[-1]))
    return model


def logits(model, tokens):
    model = model.float().eval()
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0, POSITIONS].contiguous()


# --- Leaving features out. Each takes the model's constructor arguments and state and returns changed ones.

def edit_config(change):
    def apply(config, state):
        change(config)
        return config, state
    return apply


def edit_weights(match, change):
    def apply(config, state):
        changed = 0
        for name in state:
            if match in name:
                state[name] = change(state[name])
                changed += 1
        assert changed, match
        return config, state
    return apply


def set_rope(key, value, layer=None):
    def change(config):
        parameters = config.rope_parameters
        for p in ([parameters[layer]] if layer else parameters.values() if "full_attention" in parameters else [parameters]):
            p[key] = value
    return edit_config(change)


def drop_rope_scaling(config):
    p = config.rope_parameters
    if "full_attention" in p:
        p["full_attention"] = dict(rope_type="default", rope_theta=p["full_attention"]["rope_theta"])
    else:
        config.rope_parameters = dict(rope_type="default", rope_theta=p["rope_theta"])


def swap_pairing(config, state):
    """As if the checkpoint's pairs (i, i + d/2) were taken for (2i, 2i + 1)."""
    d = config.head_dim if getattr(config, "head_dim", None) else config.hidden_size // config.num_attention_heads
    order = torch.arange(d).reshape(2, d // 2).T.reshape(-1)
    for name in state:
        if any(k in name for k in ("q_proj", "k_proj", "q_norm", "k_norm")):
            w = state[name]
            state[name] = w.reshape(-1, d, *w.shape[1:])[:, order].reshape(w.shape)
    return config, state


def ungroup(config, state):
    """As if query head h read kv head h mod kv_heads."""
    d, heads, kv = config.head_dim, config.num_attention_heads, config.num_key_value_heads
    order = torch.tensor([h for g in range(kv) for h in range(g, heads, kv)])
    for name in state:
        if name.endswith("q_proj.weight"):
            state[name] = state[name].reshape(heads, d, -1)[order].reshape(state[name].shape)
        if name.endswith("o_proj.weight"):
            w = state[name]
            state[name] = w.reshape(w.shape[0], heads, d)[:, order].reshape(w.shape)
    return config, state


def swap_gate(config, state):
    for name in list(state):
        if "gate_up_proj" in name:
            half = state[name].shape[0] // 2
            state[name] = torch.cat([state[name][half:], state[name][:half]])
        elif "gate_proj" in name:
            up = name.replace("gate_proj", "up_proj")
            state[name], state[up] = state[up], state[name]
    return config, state


def short_factors(config):
    config.rope_parameters["long_factor"] = config.rope_parameters["short_factor"]


def full_rotation(config):
    p = config.rope_parameters
    p["partial_rotary_factor"] = 1.0
    p["long_factor"] = p["long_factor"] + [p["long_factor"][-1]] * 2
    p["short_factor"] = p["short_factor"] + [p["short_factor"][-1]] * 2


def tie_output(config, state):
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    return config, state


def everywhere(kind):
    return edit_config(lambda c: setattr(c, "layer_types", [kind] * c.num_hidden_layers))


def global_rope(config):
    config.rope_parameters["full_attention"] = dict(config.rope_parameters["sliding_attention"])


ones, zeros = torch.ones_like, torch.zeros_like
FEATURES = {
    "norm gains": edit_weights("input_layernorm.weight", ones),
    "unit offset": edit_weights("input_layernorm.weight", lambda w: w - 1),
    "rope scaling": edit_config(drop_rope_scaling),
    "rope theta": set_rope("rope_theta", 10000.0),
    "rope pairing": swap_pairing,
    "grouped heads": ungroup,
    "gate": swap_gate,
    "gate order": swap_gate,
    "own output matrix": tie_output,
    "sliding window": edit_config(lambda c: setattr(c, "sliding_window", 1000)),
    "window one more": edit_config(lambda c: setattr(c, "sliding_window", c.sliding_window + 1)),
    "query bias": edit_weights("q_proj.bias", zeros),
    "key bias": edit_weights("k_proj.bias", zeros),
    "value bias": edit_weights("v_proj.bias", zeros),
    "query norm": edit_weights("q_norm.weight", ones),
    "key norm": edit_weights("k_norm.weight", ones),
    "router": edit_weights("mlp.gate.weight", zeros),
    "expert normalisation": edit_config(lambda c: setattr(c, "norm_topk_prob", False)),
    "experts used": edit_config(lambda c: setattr(c, "num_experts_per_tok", 1)),
    "embedding scale": "embedding scale",
    "global layers": everywhere("sliding_attention"),
    "global rope": edit_config(global_rope),
    "post norms": edit_weights("post_attention_layernorm.weight", zeros),
    "attention scale": edit_config(lambda c: setattr(c, "query_pre_attn_scalar", c.head_dim)),
    "tanh GELU": edit_config(lambda c: setattr(c, "hidden_activation", "gelu")),
    "long factors": edit_config(short_factors),
    "attention factor": set_rope("attention_factor", 1.0),
    "partial rotation": edit_config(full_rotation),
}


def build(config, state):
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    model.load_state_dict(state, strict=False)
    model.tie_weights()
    return model


def check_features(name, spec, config, state, tokens, golden):
    for feature in spec["features"]:
        change = FEATURES[feature]
        c, s = copy.deepcopy(config), {k: v.clone() for k, v in state.items()}
        if feature == "embedding scale":
            model = build(c, s)
            model.model.embed_tokens.embed_scale = torch.tensor(1.0)
        else:
            c, s = change(c, s)
            if feature == "own output matrix":
                assert not c.tie_word_embeddings
            model = build(c, s)
        moved = (logits(model, tokens) - golden).abs().max().item()
        print(f"  without {feature}: logits move by {moved:.3g}")
        if not moved > MARGIN * TOLERANCE:
            sys.exit(f"{name}: leaving out '{feature}' hardly changes the logits ({moved:.3g})")


def check_attention(name, config, state, tokens):
    model = build(config, state).float().eval()
    with torch.no_grad():
        weights = model(torch.tensor([tokens]), output_attentions=True).attentions
    # The mean largest weight of the late rows; uniform attention over 8 or more positions would give at most 0.13.
    peak = torch.stack([w[0, :, 16:].max(-1).values.mean() for w in weights]).mean().item()
    print(f"  mean largest attention weight {peak:.2f}")
    if peak < 0.35:
        sys.exit(f"{name}: attention is not peaked ({peak:.2f})")


def write_tokenizer(folder):
    """Byte-level BPE: the 256 bytes, fourteen merges, <|bos|>, <|eos|>."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [tuple(m.split()) for m in "Ġ t|h e|Ġt he|i n|Ġ a|r e|o n|e r|a t|Ġ s|i s|Ġa n|o u|in g".split("|")]
    tokens = alphabet + [a + b for a, b in merges]
    tokenizer = Tokenizer(token_models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|bos|>", "<|eos|>"])
    assert tokenizer.get_vocab_size() == VOCAB
    tokenizer.save(os.path.join(folder, "tokenizer.json"), pretty=False)
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        json.dump(dict(tokenizer_class="PreTrainedTokenizerFast", bos_token="<|bos|>", eos_token="<|eos|>"), f, indent=1)


def rewrite_as_v4(path):
    """config.json as transformers 4 wrote it: rope_theta, rope_scaling, torch_dtype."""
    c = json.load(open(path))
    c["torch_dtype"] = c.pop("dtype")
    c["transformers_version"] = "4.51.3"
    if "num_local_experts" in c:
        c["num_experts"] = c.pop("num_local_experts")
    rope = c.pop("rope_parameters")
    if "full_attention" in rope:
        c["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
        del c["_sliding_window_pattern"]
        c["sliding_window_pattern"] = c.pop("layer_types").index("full_attention") + 1
    elif "layer_types" in c:
        del c["layer_types"]
    c["rope_theta"] = rope.pop("rope_theta")
    if "partial_rotary_factor" in rope:
        c["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    if rope["rope_type"] == "longrope":
        rope.pop("original_max_position_embeddings")  # a key of its own there
        rope["type"] = rope.pop("rope_type")
    c["rope_scaling"] = None if rope.get("rope_type") == "default" else rope
    json.dump(c, open(path, "w"), indent=2, sort_keys=True)


def make(name):
    spec = MODELS[name]
    print(name)
    seed = sum(map(ord, name))
    config = AutoConfig.for_model(**{**COMMON, **copy.deepcopy(spec["config"])})
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = randomize(AutoModelForCausalLM.from_config(config), seed).to(torch.bfloat16)
    tokens = torch.randint(0, 256, (LENGTH,), generator=torch.Generator().manual_seed(seed + 1)).tolist()

    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, max_shard_size=spec.get("shard", "10GB"))
    write_tokenizer(folder)
    if spec["style"] == "v4":
        rewrite_as_v4(os.path.join(folder, "config.json"))

    # Golden logits come from the files written, so that they are checked too.
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    golden = logits(model, tokens)
    print(f"  logits: deviation {golden.std():.2f}")
    save_file(dict(tokens=torch.tensor(tokens, dtype=torch.int32), positions=torch.tensor(POSITIONS, dtype=torch.int32), logits=golden),
              os.path.join(folder, "golden.safetensors"))
    state = {k: v.clone() for k, v in model.state_dict().items()}
    difference = (logits(build(copy.deepcopy(config), state), tokens) - golden).abs().max().item()
    if difference > TOLERANCE / 10:
        sys.exit(f"{name}: the configuration as written reads differently ({difference})")
    check_attention(name, copy.deepcopy(config), state, tokens)
    check_features(name, spec, config, state, tokens, golden)
    for file in os.listdir(folder):
        size = os.path.getsize(os.path.join(folder, file))
        if size > LIMIT:
            sys.exit(f"{name}/{file} has {size} bytes")


for name in sys.argv[1:] or MODELS:
    make(name)
