#!/usr/bin/env python3
"""Quantizes a llama model with GPTQ or AWQ of llm-compressor (pip install llmcompressor; runs on the CPU), and writes what its weights
decode to as a Hugging Face directory in f32, for `quern evaluate`.

Codes of 4 bits in groups along a row, each with a scale of 16 bits (GPTQ: symmetric; AWQ: and a zero point of 4 bits). The table of
embeddings stays as it is, as those tools leave it.

usage: gptq.py MODEL_DIR TEXT OUT_DIR [--method gptq|awq] [--group N] [--tokens N] [--window N]
"""
import argparse, json, os, shutil
import torch
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.awq import AWQModifier
from llmcompressor.modifiers.gptq import GPTQModifier
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("out")
    parser.add_argument("--method", choices=["gptq", "awq"], default="gptq")
    parser.add_argument("--group", type=int, default=128)
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--window", type=int, default=256)
    args = parser.parse_args()
    torch.manual_seed(0)
    if not torch.cuda.is_available():  # AWQ's modifier pins memory in any case, which asks for a driver
        torch.Tensor.pin_memory = lambda self, *_: self
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ids = tokenizer(open(args.text, encoding="utf-8", newline="").read(), add_special_tokens=False)["input_ids"]
    count = len(ids) // args.window
    wanted = min(args.tokens // args.window, count) if args.tokens else count
    rows = [ids[i * count // wanted * args.window :][: args.window] for i in range(wanted)]
    data = Dataset.from_dict({"input_ids": rows, "attention_mask": [[1] * args.window] * wanted})
    weights = {"num_bits": 4, "type": "int", "symmetric": args.method == "gptq", "strategy": "group", "group_size": args.group}
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    kind = GPTQModifier if args.method == "gptq" else AWQModifier
    oneshot(model=model, tokenizer=tokenizer, dataset=data, recipe=kind(config_groups=groups, ignore=["lm_head"]),
            max_seq_length=args.window, num_calibration_samples=wanted, shuffle_calibration_samples=False)
    out, changed = {}, 0
    for name, module in model.named_modules():
        if not hasattr(module, "weight_scale"):
            continue
        w, scale = module.weight.detach().float(), module.weight_scale.float()
        zero = module.weight_zero_point.float() if hasattr(module, "weight_zero_point") else torch.zeros_like(scale)
        spread = lambda t: t.repeat_interleave(args.group, 1)
        codes = torch.clamp(torch.round(w / spread(scale)) + spread(zero), -8, 7)
        out[name + ".weight"] = ((codes - spread(zero)) * spread(scale)).contiguous()
        changed += w.numel()
    for name, value in model.state_dict().items():  # AWQ changes norms, too
        if name in before and name not in out and name != "lm_head.weight":
            out[name] = value.detach().float().contiguous()
    os.makedirs(args.out, exist_ok=True)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(f"{args.model}/{name}", args.out)
    config = json.load(open(f"{args.out}/config.json"))
    config["dtype" if "dtype" in config else "torch_dtype"] = "float32"
    json.dump(config, open(f"{args.out}/config.json", "w"), indent=1)
    save_file(out, f"{args.out}/model.safetensors", metadata={"format": "pt"})
    bits = 4 + (16 if args.method == "gptq" else 20) / args.group
    print(json.dumps({"matrices_bytes": int(changed * bits / 8), "matrices_weights": changed, "bits": bits}))


if __name__ == "__main__":
    main()
