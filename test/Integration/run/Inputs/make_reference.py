#!/usr/bin/env python3
"""Writes tiny.json, what transformers computes in float32 for a model and a text.

usage: make_reference.py MODEL_DIR TEXT WINDOW OUT.json      needs: torch transformers tokenizers
"""
import json, sys
import numpy as np, torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

path, text, window, out = sys.argv[1:]
window = int(window)
tokenizer = PreTrainedTokenizerFast(tokenizer_file=path + "/tokenizer.json")
model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
result = {"prompts": [], "perplexity": []}
with torch.no_grad():
    for prompt in ["The capital of France is", "In the beginning God created", "She was not a woman of many words; for,"]:
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        last = model(torch.tensor([ids])).logits[0, -1].double().numpy()
        top = np.argsort(-last)[:32]
        greedy = list(ids)
        for _ in range(16):
            greedy.append(int(model(torch.tensor([greedy])).logits[0, -1].argmax()))
        result["prompts"].append({"text": prompt, "ids": ids, "top": [[int(i), round(float(last[i]), 5)] for i in top],
                                  "mean": float(last.mean()), "greedy": greedy[len(ids):]})
    ids = tokenizer(open(text, encoding="utf-8").read(), add_special_tokens=False)["input_ids"]
    losses = []
    for i in range(0, len(ids) - window + 1, window):
        x = torch.tensor([ids[i:i + window]])
        losses.append(torch.nn.functional.cross_entropy(model(x).logits[0, :-1], x[0, 1:]).item())
    result["perplexity"].append({"window": window, "tokens": len(ids), "windows": len(losses), "value": float(np.exp(np.mean(losses)))})
with open(out, "w") as file:
    json.dump(result, file, indent=1)
    file.write("\n")
