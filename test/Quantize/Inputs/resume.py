"""Kills a command (SIGKILL) again and again, each time after one more result lies in its work folder, then lets it finish."""
import os, signal, subprocess, sys, time

work, kills, command = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
count = lambda: len([n for n in os.listdir(work) if "tmp" not in n]) if os.path.isdir(work) else 0
for kill in range(kills):
    before = count()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None and count() < before + 1 + 3 * kill:
        time.sleep(0.002)
    assert process.poll() is None, "finished before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert count() >= before, "results of an earlier run are gone"
assert count() > 0
subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
