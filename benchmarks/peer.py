#!/usr/bin/env python3
"""Measures llama.cpp (through llama-cpp-python) the way an emitted program's --bench measures itself.

usage: peer.py MODEL.gguf [--threads N] [--repeat N] [--no-mmap]

Prints one JSON object: {"prefill_128": {"median", "min", "max"}, "prefill_512": ..., "decode": ...} in tokens/s.
Prefill processes random token ids in one batch with logits for the last alone; decode feeds 64 tokens one by one after a
prompt of 8. With --no-mmap the weights are allocated, so that GLIBC_TUNABLES=glibc.malloc.hugetlb=1 puts them in huge pages.
"""
import argparse, json, random, statistics, time
import llama_cpp as lc

from engines import silence_llama


def summary(rates):
    return {"median": round(statistics.median(rates), 2), "min": round(min(rates), 2), "max": round(max(rates), 2)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--no-mmap", action="store_true")
    args = parser.parse_args()

    silence_llama()
    lc.llama_backend_init()
    mp = lc.llama_model_default_params()
    mp.use_mmap = not args.no_mmap
    model = lc.llama_model_load_from_file(args.model.encode(), mp)
    if not model:
        raise SystemExit(f"{args.model}: llama.cpp cannot load it")
    cp = lc.llama_context_default_params()
    cp.n_ctx, cp.n_batch, cp.n_ubatch = 1024, 512, 512
    cp.n_threads = cp.n_threads_batch = args.threads
    context = lc.llama_init_from_model(model, cp)
    memory = lc.llama_get_memory(context)
    vocab = lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(model))
    rng = random.Random(0)

    def decode(ids, start):
        batch = lc.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, start + i, 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = i == len(ids) - 1
        t = time.perf_counter()
        if lc.llama_decode(context, batch):
            raise SystemExit("llama_decode failed")
        lc.llama_synchronize(context)
        t = time.perf_counter() - t
        lc.llama_batch_free(batch)
        return t

    def draw(n):
        return [rng.randrange(10, vocab) for _ in range(n)]

    result = {}
    for n in (128, 512):
        rates = []
        for i in range(args.repeat + 1):
            lc.llama_memory_clear(memory, True)
            t = decode(draw(n), 0)
            if i:
                rates.append(n / t)
        result[f"prefill_{n}"] = summary(rates)
    rates = []
    for i in range(args.repeat + 1):
        lc.llama_memory_clear(memory, True)
        decode(draw(8), 0)
        t = sum(decode(draw(1), 8 + k) for k in range(64))
        if i:
            rates.append(64 / t)
    result["decode"] = summary(rates)
    print(json.dumps(result))


main()
