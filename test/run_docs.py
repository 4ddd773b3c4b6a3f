#!/usr/bin/env python3
"""Runs the commands of a Markdown page and compares what they print.

usage: run_docs.py PAGE.md

In a block fenced as ```console, a line `$ COMMAND` is run by bash (a trailing backslash or a here-document continues it) and must succeed; the
lines up to the next command, if any, are what it must print, where `...` stands for anything (within a line, or as a line of
its own for any number of lines). Blocks of any other kind are left alone. All blocks of a page share one scratch folder,
in which `models` is the repository's.
"""
import os, re, subprocess, sys, tempfile


def in_here_document(command):
    """Whether the command waits for the line that ends a here-document."""
    opened = re.search(r"<<-?'?(\w+)'?", command)
    return opened and not re.search(rf"^{opened.group(1)}$", command, re.M)


def blocks(text):
    """Yields (command, expected output lines, line number)."""
    for fence in re.finditer(r"^```console\n(.*?)^```", text, re.M | re.S):
        start = text.count("\n", 0, fence.start()) + 2
        command, expected, where = None, [], 0
        for number, line in enumerate(fence.group(1).split("\n"), start):
            if line.startswith("$ "):
                if command is not None:
                    yield command, expected, where
                command, expected, where = line[2:], [], number
            elif command is not None and not expected and (command.endswith("\\") or in_here_document(command)):
                command += "\n" + line
            elif command is not None:
                expected.append(line)
        if command is not None:
            yield command, expected, where


def pattern(expected):
    while expected and not expected[-1].strip():
        expected = expected[:-1]
    parts = []
    for line in expected:
        if line.strip() == "...":
            parts.append(r"(?:[^\n]*\n)*?")
        else:
            parts.append(".*?".join(re.escape(piece.rstrip()) for piece in line.split("...")) + r"[ ]*\n")
    return "".join(parts)


def main():
    page = sys.argv[1]
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    count = 0
    with tempfile.TemporaryDirectory() as scratch:
        os.symlink(os.path.join(root, "models"), os.path.join(scratch, "models"))
        for command, expected, where in blocks(open(page, encoding="utf-8").read()):
            result = subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=scratch, text=True, stdin=subprocess.DEVNULL,
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            wanted = pattern(expected)
            output = result.stdout if result.stdout.endswith("\n") or not result.stdout else result.stdout + "\n"
            if result.returncode or (wanted and not re.fullmatch(wanted, output)):
                sys.exit(f"{page}:{where}: $ {command}\nexit status {result.returncode}; expected:\n" + "\n".join(expected) + f"\nprinted:\n{output}")
            count += 1
    if not count:
        sys.exit(f"{page}: no commands found")
    print(f"{page}: {count} commands ran")


main()
