"""Makes a model that chats out of one that does not: the same weights, two of its tokens turned into marks of a template.

usage: make_chat_model.py MODEL_DIRECTORY OUT_DIRECTORY END_TOKEN
END_TOKEN (a text as tokenizer.json spells it) becomes <|im_end|>, so that turns end where the model would have written it; the
last token of the vocabulary becomes <|im_start|>.
"""
import json, os, sys

source, out, end = sys.argv[1:]
os.makedirs(out)
os.symlink(os.path.abspath(os.path.join(source, "model.safetensors")), os.path.join(out, "model.safetensors"))


def edit(name, change):
    with open(os.path.join(source, name), encoding="utf-8") as file:
        data = json.load(file)
    change(data)
    with open(os.path.join(out, name), "w", encoding="utf-8") as file:
        json.dump(data, file)


def rename(tokenizer):
    model = tokenizer["model"]
    last = max(model["vocab"], key=model["vocab"].get)
    for old, new in ((end, "<|im_end|>"), (last, "<|im_start|>")):
        merges = [m if isinstance(m, list) else m.split(" ") for m in model["merges"]]
        assert not any(old in m for m in merges), f"{old!r} is a part of other tokens"
        model["merges"] = [m for m in merges if "".join(m) != old]
        index = model["vocab"].pop(old)
        model["vocab"][new] = index
        tokenizer["added_tokens"].append({"id": index, "content": new, "single_word": False, "lstrip": False, "rstrip": False,
                                          "normalized": False, "special": True})
    tokenizer["added_tokens"].sort(key=lambda t: t["id"])


edit("config.json", lambda c: None)
edit("tokenizer.json", rename)
edit("tokenizer_config.json", lambda c: c.update(eos_token="<|im_end|>"))
with open(os.path.join(out, "chat_template.jinja"), "w") as file:
    file.write("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
               "{{ '<|im_start|>system\nYou are a helpful AI assistant<|im_end|>\n' }}{% endif %}"
               "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
               "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
