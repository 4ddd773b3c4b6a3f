"""Holds conversations with an emitted program and compares the tokens it works on with the model's own template.

usage: check_chat.py PROGRAM TOKENIZER.json TEMPLATE.jinja [-n TOKENS] [--need-end]

Each conversation is held twice: through --json, which reports the ids of every turn, to be those of jinja2 and `tokenizers` for the
conversation so far; and on a pseudo-terminal, where the program must show the same answers.
"""
import argparse, json, os, select, subprocess, sys, termios, time
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

parser = argparse.ArgumentParser()
parser.add_argument("program")
parser.add_argument("tokenizer")
parser.add_argument("template")
parser.add_argument("-n", default="16")
parser.add_argument("--need-end", action="store_true", help="some turn must end by itself")
args = parser.parse_args()
tokenizer = Tokenizer.from_file(args.tokenizer)
template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]).from_string(
    open(args.template, encoding="utf-8").read())

CONVERSATIONS = [
    (None, ["In the beginning God created", "  What   then?", "And the LORD spake unto Moses, saying,"]),
    ("Answer briefly.", ["Hi", "naïve café 日本語 \U0001F600", "tab\tand \"quotes\" 12345 "]),
]


def through_json(options, turns):
    run = subprocess.run([args.program, "--chat", "--json", *options], input="\n".join(turns) + "\n", capture_output=True,
                         text=True, encoding="utf-8")
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def on_terminal(options, turns, answers):
    """What it shows must be a prompt and an answer for each turn, and nothing else."""
    ours, theirs = os.openpty()
    mode = termios.tcgetattr(theirs)
    mode[1] &= ~termios.OPOST
    mode[3] &= ~termios.ECHO
    termios.tcsetattr(theirs, termios.TCSANOW, mode)
    program = subprocess.Popen([args.program, *options], stdin=theirs, stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    shown = b""

    def expect(text):
        nonlocal shown
        limit = time.time() + 60
        while len(shown) < len(text) and time.time() < limit:
            if select.select([ours], [], [], 1)[0]:
                try:
                    shown += os.read(ours, 65536)
                except OSError: # the other side is closed
                    break
        assert shown == text, f"shown {shown!r}, expected {text!r}"

    text = b"> "
    for turn, answer in zip(turns, answers):
        expect(text)
        os.write(ours, turn.encode() + b"\n")
        text += answer.encode() + b"\n> "
    expect(text)
    os.write(ours, b"\n") # an empty line ends the chat
    expect(text + b"\n")
    hint = program.stderr.read().decode()
    assert program.wait() == 0, hint
    assert hint.startswith("Type a message"), hint
    os.close(ours)


ends = 0
for system, turns in CONVERSATIONS:
    options = ["-n", args.n] + (["--system", system] if system else [])
    reports = through_json(options, turns)
    assert len(reports) == len(turns), reports
    messages = [{"role": "system", "content": system}] if system else []
    for turn, report in zip(turns, reports):
        messages.append({"role": "user", "content": turn})
        text = template.render(messages=messages, add_generation_prompt=True)
        expected = tokenizer.encode(text, add_special_tokens=False).ids
        assert report["prompt_tokens"] == expected, f"{text!r}\nfed      {report['prompt_tokens']}\nexpected {expected}"
        if "\ufffd" not in report["text"]: # -n may cut a character
            assert tokenizer.decode(report["tokens"], skip_special_tokens=False) == report["text"], report
        ends += report["stopped_by"] == "end"
        messages.append({"role": "assistant", "content": report["text"]})
    on_terminal(options, turns, [r["text"] for r in reports])
assert ends or not args.need_end, "no turn ended by itself"
print(f"{len(CONVERSATIONS)} conversations of {len(turns)} turns, token for token; {ends} turns ended by themselves")
