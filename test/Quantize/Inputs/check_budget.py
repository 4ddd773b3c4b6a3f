"""What reports of `quern quantize` say of budgets: check_budget.py time REPORT TIMES R | bitops REPORT MOST [BITS] | smallest."""
import json, re, sys

kind = sys.argv[1]
if kind == "smallest":
    print(re.search(r"the smallest possible [\w ]+ has (\d+) bytes", sys.stdin.read()).group(1))
    sys.exit()
report = json.load(open(sys.argv[2]))
tensors = report["tensors"]
assert {t["format"] for t in tensors} == {"Q4_K", "Q8_0"}, "the budget decides nothing"
if kind == "time":
    times = json.load(open(sys.argv[3]))
    per_weight = {k["format"]: k["seconds"] / k["rows"] / k["columns"] for k in times["kernels"]}
    seconds = times["other"] + sum(t["rows"] * t["columns"] * per_weight[t["format"]] for t in tensors)
    assert abs(report["tokens_per_second"] * seconds - 1) < 1e-6, (report["tokens_per_second"], 1 / seconds)
    rate = float(sys.argv[4])
    assert rate <= 1 / seconds < rate * 1.02, 1 / seconds
else:
    # Q4_K has codes of 4 bits and activations of 8, Q8_0 8 and 16.
    work = sum(t["rows"] * t["columns"] * {"Q4_K": 4 * 8, "Q8_0": 8 * 16}[t["format"]] for t in tensors)
    most = float(sys.argv[3])
    assert work == report["work"] <= most, (work, report["work"])
    if len(sys.argv) > 4:
        assert report["bits"] <= float(sys.argv[4]), report["bits"]
        assert work > 0.9 * most or report["bits"] > 0.98 * float(sys.argv[4])
    else:
        assert work > 0.98 * most, work
