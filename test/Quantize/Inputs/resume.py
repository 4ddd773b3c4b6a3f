"""Kills a command (SIGKILL) again and again, each time after more results lie in its work folder, then lets it finish.

usage: resume.py WORK N,N,... COMMAND... -o OUT...       N: results after which it is killed, each time as many more

A busy machine may let the command finish before it is killed: then all begins anew.
"""
import os, signal, subprocess, sys, time

work, kills, command = sys.argv[1], [int(n) for n in sys.argv[2].split(",")], sys.argv[3:]
output = command[command.index("-o") + 1]


def count():
    try:
        return len([n for n in os.listdir(work) if "tmp" not in n])
    except FileNotFoundError:
        return 0


def killed(more):
    """Whether the command was killed with `more` results than before; else it has finished."""
    before = count()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None and count() < before + more:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        assert process.returncode == 0, "the command failed"
        return False
    assert count() >= before, "results of an earlier run are gone"
    return count() > 0 and not os.path.exists(output)


for _ in range(20):
    if all(killed(more) for more in kills):
        break
    if os.path.exists(output):
        os.remove(output)
else:
    sys.exit("the command always finished before it could be killed")
subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
