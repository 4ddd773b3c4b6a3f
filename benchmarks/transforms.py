#!/usr/bin/env python3
"""What transforms bring to programs with integer activations: KL divergence from the float model on held-back text.

Every row compiles the model in one format with activations in int8 or int4 (one scale a token), after the transforms named, and
runs it as it is beside the float program. What calibrates them is another text. Prints a table in markdown.

usage: transforms.py MODEL --calibration FILE | --statistics FILE --text FILE [--calibration-tokens N] [--tokens N] [--scratch DIR]
                     [--rows 'NAME;...'] [--json FILE]
"""
import argparse, json, os, shutil, subprocess, tempfile, time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
QUERN = os.environ.get("QUERN", f"{ROOT}/build/bin/quern")
STREAM, INPUTS = "quern-rotate-stream{{data={0}}}", "quern-rotate-inputs{{data={0}}}"
SPLIT = ("quern-split-columns{{statistics={1} share=0.05 rest=%s}},"
         "quern-quantize-weights{{statistics={1} solver=nearest activations=%s data={0}}}")
KEEP = "quern-keep-outliers{threshold=6}"
# Row: weights' format, transforms of the file, passes while it is compiled ({0}: folder, {1}: statistics); int8 activations, or
# those that the row names.
ROWS = {
    "W8A8": ("int8_channel", "", ""),
    "W8A8 split": ("int8_channel", "", SPLIT % ("int8_channel", "int8")),
    "W8A8 outliers from 6 kept": ("int8_channel", "", KEEP.replace("{", "{{").replace("}", "}}")),
    "W8A8 search": ("int8_channel", "search{format=int8_channel activations=int8}", ""),
    "W8A8 smooth": ("int8_channel", "smooth", ""),
    "W8A8 rotate": ("int8_channel", "", STREAM + "," + INPUTS),
    "W8A8 smooth, rotate": ("int8_channel", "smooth", STREAM + "," + INPUTS),
    "W4A8": ("int4_g32", "", ""),
    "W4A8 smooth": ("int4_g32", "smooth", ""),
    "W4A8 search": ("int4_g32", "search{format=int4_g32}", ""),
    "W4A8 search with int8": ("int4_g32", "search{format=int4_g32 activations=int8}", ""),
    "W4A8 rotate": ("int4_g32", "", STREAM + "," + INPUTS),
    "W4A8 search with int8, rotate inputs": ("int4_g32", "search{format=int4_g32 activations=int8}", INPUTS),
    "W4A8 split": ("int4_g32", "", SPLIT % ("int4_g32", "int8")),
    "W4A4": ("int4_g32", "", "", "int4"),
    "W4A4 in groups of 32": ("int4_g32", "", "", "q4"),
    "W4A4 search with int4": ("int4_g32", "search{format=int4_g32 activations=int4}", "", "int4"),
    "W4A4 split": ("int4_g32", "", SPLIT % ("int4_g32", "int4"), "int4"),
    "W4A4 rotate": ("int4_g32", "", STREAM + "," + INPUTS, "int4"),
    "W4A4 rotate, in groups of 32": ("int4_g32", "", STREAM + "," + INPUTS, "q4"),
}


def run(*command):
    result = subprocess.run([QUERN, *command], capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"quern {' '.join(command)}\n{result.stdout}{result.stderr}")
    return result.stdout


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("model")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--calibration", help="text")
    source.add_argument("--statistics", help="what quern calibrate made of one")
    parser.add_argument("--text", required=True)
    parser.add_argument("--calibration-tokens", default="8192")
    parser.add_argument("--tokens", default="4096")
    parser.add_argument("--scratch", default=os.path.join(tempfile.gettempdir(), "quern-transforms"))
    parser.add_argument("--rows", default=";".join(ROWS), help="names of rows, ; between them")
    parser.add_argument("--json")
    options = parser.parse_args()
    os.makedirs(options.scratch, exist_ok=True)
    place = lambda name: os.path.join(options.scratch, name)
    statistics = options.statistics or place("s.qst")
    if options.calibration:
        run("calibrate", options.model, "--text", options.calibration, "--tokens", options.calibration_tokens, "-o", statistics, "--force")
    run("compile", options.model, "--emit", "shared", "--target", "native", "--format", "f32", "--activations", "f32", "--kv-cache", "f32",
        "--context", "520", "-o", place("float.so"), "--force")
    wanted = [name for name in ROWS if name in options.rows.split(";")]
    results = {}
    print("| weights, transforms | mean KL | 99 % | same token | perplexity ratio |\n|---|---|---|---|---|")
    for name in wanted:
        form, transforms, passes, *activations = ROWS[name]
        model, program = options.model, place("program.so")
        if transforms:
            model = place(transforms.split("{")[0] + ".gguf")
            run("transform", options.model, "-o", model, "--transform", transforms, "--statistics", statistics, "--force")
        folder = place("weights")
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        run("compile", model, "--emit", "shared", "--target", "native", "--format", form, "--activations", *(activations or ["int8"]),
            "--context", "520", *(["--passes", passes.format(folder, statistics)] if passes else []), "-o", program, "--force")
        started = time.time()
        report = json.loads(run("evaluate", place("float.so"), program, "--engine", "own", "--text", options.text, "--tokens", options.tokens,
                                "--window", "512", "--json"))
        report["seconds"] = time.time() - started
        results[name] = report
        print("| " + " | ".join([name, f"{report['kl_mean']:.4f} ± {report['kl_interval']:.4f}", f"{report['kl_p99']:.3f}",
                                 f"{report['top1_agreement']:.3f}", f"{report['perplexity_ratio']:.4f}"]) + " |", flush=True)
        shutil.rmtree(folder)
    if options.json:
        json.dump(results, open(options.json, "w"), indent=1)


if __name__ == "__main__":
    main()
