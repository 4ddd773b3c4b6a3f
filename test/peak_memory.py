"""The private memory that a command takes at most."""
import subprocess, threading, time


def peak_of(command, **options):
    """Runs a command that must succeed; bytes of private memory (RssAnon) at the highest."""
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
    assert process.returncode == 0, report
    return peak
