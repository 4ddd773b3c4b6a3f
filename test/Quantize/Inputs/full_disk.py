"""Runs a command that can make no file larger than BYTES: writing more fails as on a full disk. It must fail with one message that says so.

usage: full_disk.py BYTES FOLDER COMMAND...       what lies in FOLDER must be the same afterwards
"""
import os, resource, signal, subprocess, sys

limit, folder, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]


def restrict():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


before = sorted(os.listdir(folder))
done = subprocess.run(command, preexec_fn=restrict, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
errors = [line for line in done.stderr.splitlines() if "error" in line]
assert done.returncode not in (0, None) and done.returncode > 0, (done.returncode, done.stderr)
assert len(errors) == 1 and "cannot write '" in errors[0] and "File too large" in errors[0], done.stderr
assert sorted(os.listdir(folder)) == before, os.listdir(folder)
print(errors[0])
