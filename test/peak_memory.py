"""The private memory that a command takes at most.

usage: peak_memory.py STATUS MIB COMMAND...     fails if it ends with another status or takes more
"""
import subprocess, sys, threading, time


def peak_of(command, status=0, **options):
    """Runs a command that must end with this status; bytes of private memory (RssAnon) at the highest."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    peak = 0

    def watch():
        nonlocal peak
        while process.poll() is None:
            try:
                with open(f"/proc/{process.pid}/status") as file:
                    peak = max([peak] + [int(line.split()[1]) << 10 for line in file if line.startswith("RssAnon")])
            except OSError:
                return
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    report = process.communicate()[0]
    watcher.join()
    assert process.returncode == status, report
    return peak


if __name__ == "__main__":
    status, limit, *command = sys.argv[1:]
    peak = peak_of(command, int(status))
    assert 0 < peak <= int(limit) << 20, f"{peak >> 20} MiB"
