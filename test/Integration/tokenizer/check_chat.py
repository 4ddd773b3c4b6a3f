"""Compares conversations as `quern tokenize --chat` renders them with jinja2's rendering.

usage: check_chat.py MODEL_DIRECTORY WORKING_DIRECTORY TEMPLATE...
MODEL_DIRECTORY lends its tokenizer.json. Prints one line for each template.
"""
import json
import os
import random
import shutil
import subprocess
import sys
import time

from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment


def jinja(source, dates):
    """As transformers sets it up; `strftime_now` only where the template cannot do without."""
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=["jinja2.ext.loopcontrols"])

    def raise_exception(message):
        raise TemplateError(message)

    env.globals["raise_exception"] = raise_exception
    if dates:
        env.globals["strftime_now"] = time.strftime
    return env.from_string(source)


def conversations():
    r = random.Random(7)
    texts = ["Hi", "Hello there!", "  two  spaces ", "line\n\nline\n", "\n\nnewlines first", "naïve 😀 中文",
             "tabs\tand \"quotes\" and {braces} <|im_end|>", "1 < 2 && 3 > 2", "x" * 300]
    for system in (False, True):
        for count in range(1, 8):
            for _ in range(4):
                m = [{"role": "system", "content": r.choice(texts)}] if system else []
                m += [{"role": ["user", "assistant"][i % 2], "content": r.choice(texts)} for i in range(count)]
                yield {"messages": m, "answer": count % 2 == 1 and r.random() < 0.7}


def main():
    model, folder, templates = sys.argv[1], sys.argv[2], sys.argv[3:]
    ok = True
    for path in templates:
        name = os.path.basename(path).removesuffix(".jinja")
        work = f"{folder}/{name}"
        os.makedirs(work)
        shutil.copy(f"{model}/tokenizer.json", work)
        shutil.copy(path, f"{work}/chat_template.jinja")
        with open(f"{work}/tokenizer_config.json", "w", encoding="utf-8") as f:
            json.dump({"bos_token": "<BOS>", "eos_token": {"content": "<EOS>"}}, f)
        with open(path, encoding="utf-8") as f:
            source = f.read()
        lines, expected, refused = [], [], set()
        dates = False
        for c in conversations():
            args = dict(messages=c["messages"], add_generation_prompt=c["answer"], bos_token="<BOS>", eos_token="<EOS>")
            try:
                try:
                    text = jinja(source, dates).render(**args)
                except TemplateError as e:
                    if "strftime_now" not in str(e):
                        raise
                    dates = True
                    text = jinja(source, dates).render(**args)
            except TemplateError as e:
                refused.add(str(e))
                continue
            lines.append(json.dumps(c, ensure_ascii=False))
            expected.append(text)
        run = subprocess.run(["quern", "tokenize", work, "-", "--chat"], input="\n".join(lines).encode(),
                             stdout=subprocess.PIPE, check=False)
        found = [json.loads(line)["text"] for line in run.stdout.decode().split("\n")[:-1]]
        same = sum(a == b for a, b in zip(expected, found))
        good = run.returncode == 0 and same == len(expected) == len(found)
        ok &= good
        print(f"{name}: {same} of {len(expected)} conversations equal" +
              (f"; the template refuses some: {', '.join(sorted(refused))}" if refused else ""))
        if not good:
            for a, b in zip(expected, found):
                if a != b:
                    print(f"  expected {a[-300:]!r}\n  found    {b[-300:]!r}")
                    break
    sys.exit(not ok)


if __name__ == "__main__":
    main()
