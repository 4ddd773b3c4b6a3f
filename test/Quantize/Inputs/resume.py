"""Kills a command (SIGKILL) again and again, each time after more results lie in its work folder, then lets it finish.

usage: resume.py WORK N,N,... COMMAND...       N: results after which it is killed, each time as many more
"""
import os, signal, subprocess, sys, time

work, kills, command = sys.argv[1], [int(n) for n in sys.argv[2].split(",")], sys.argv[3:]
count = lambda: len([n for n in os.listdir(work) if "tmp" not in n]) if os.path.isdir(work) else 0
for more in kills:
    before = count()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None and count() < before + more:
        time.sleep(0.002)
    assert process.poll() is None, "finished before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert count() >= before, "results of an earlier run are gone"
assert count() > 0
subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
