//===- CliBench.cpp - How fast the program is here ------------------------===//
//
// Prefill of 128 and 512 tokens, decode of 64 after a prompt of 8, each --repeat times
// after one unmeasured run. The machine's read bandwidth is measured between the
// decodes, because it changes from minute to minute.
//
//===----------------------------------------------------------------------===//
#include "Cli.h"
#include "quern/Runtime/Cpu.h"
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <ctime>

namespace quern::runtime::cli {

namespace {
double seconds() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

/// Sums all 64-bit words of a range by all threads: as fast as memory can be read.
struct Reader {
  const uint8_t *data;
  size_t size;
  std::vector<uint64_t> sums;
};
typedef uint64_t Words __attribute__((vector_size(64)));

void readShare(void *context, int thread, int threads) {
  auto *r = static_cast<Reader *>(context);
  size_t words = r->size / sizeof(Words);
  size_t begin = words * size_t(thread) / size_t(threads);
  size_t end = words * size_t(thread + 1) / size_t(threads);
  auto *p = reinterpret_cast<const Words *>(r->data);
  Words a = {}, b = {};
  size_t half = (end - begin) / 2; // two streams: more requests in flight
  for (size_t i = 0; i < half; ++i) {
    __builtin_prefetch(p + begin + i + 24);
    __builtin_prefetch(p + begin + half + i + 24);
    a += p[begin + i];
    b += p[begin + half + i];
  }
  uint64_t sum = 0;
  for (int i = 0; i < 8; ++i)
    sum += a[i] + b[i];
  r->sums[size_t(thread)] = sum;
}

/// Ids that are the same in every program, spread over the vocabulary.
std::vector<int32_t> draw(size_t count, int32_t vocab, uint64_t &state) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < count; ++i) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    ids.push_back(int32_t((state >> 33) % uint64_t(vocab)));
  }
  return ids;
}

Json summary(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  auto at = [&](double share) { return v[std::min(v.size() - 1, size_t(share * double(v.size())))]; };
  size_t n = v.size();
  double median = n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
  return Json::object()
      .set("median", median)
      .set("min", v.front())
      .set("max", v.back())
      .set("spread", (at(0.75) - at(0.25)) / median)
      .set("runs", uint64_t(n));
}
} // namespace

Status bench(Model &model, const Options &options) {
  Engine &engine = *model.engine;
  const quern_program &p = engine.program();
  int32_t sequence;
  if (Status s = engine.newSequence(sequence); s.failed())
    return s;
  uint64_t state = 1;
  auto run = [&](const std::vector<int32_t> &ids, double &taken) {
    double start = seconds();
    Status s = engine.prefill(sequence, ids, ids.size() - 1, nullptr);
    taken += seconds() - start;
    return s;
  };

  Json out = Json::object();
  for (int32_t count : {128, 512}) {
    if (count > p.context)
      continue;
    std::vector<double> rates;
    for (int64_t i = 0; i <= options.repeat; ++i) {
      if (Status s = engine.rollback(sequence, 0); s.failed())
        return s;
      double taken = 0;
      if (Status s = run(draw(size_t(count), p.vocab_size, state), taken); s.failed())
        return s;
      if (i)
        rates.push_back(count / taken);
    }
    out.set("prefill_" + std::to_string(count), summary(rates));
  }

  // The probe reads at least 256 MiB, so that caches do not count as memory.
  std::span<const uint8_t> weights = engine.payload().section(WeightSection);
  Memory probe;
  Reader reader{weights.data(), weights.size(), std::vector<uint64_t>(size_t(engine.threads().size()))};
  if (weights.size() < (256u << 20)) {
    if (Status s = probe.allocate(256u << 20, "the bandwidth probe"); s.failed())
      return s;
    std::memset(probe.data(), 1, probe.size());
    reader.data = probe.data();
    reader.size = probe.size();
  }
  std::vector<double> rates, bandwidths, shares;
  double read = model.metadata["decode_bytes"].asNumber(double(weights.size()));
  int steps = std::min(64, p.context - 8);
  for (int64_t i = 0; i <= options.repeat && steps > 0; ++i) {
    double start = seconds();
    engine.threads().run(readShare, &reader);
    double bandwidth = double(reader.size) / (seconds() - start);
    if (Status s = engine.rollback(sequence, 0); s.failed())
      return s;
    double taken = 0;
    if (Status s = run(draw(8, p.vocab_size, state), taken); s.failed())
      return s;
    taken = 0;
    for (int k = 0; k < steps; ++k)
      if (Status s = run(draw(1, p.vocab_size, state), taken); s.failed())
        return s;
    if (!i)
      continue;
    rates.push_back(steps / taken);
    bandwidths.push_back(bandwidth / 1e9);
    shares.push_back(rates.back() * read / bandwidth);
  }
  if (!rates.empty()) {
    out.set("decode", summary(rates));
    out.set("read_bandwidth_gbs", summary(bandwidths));
    out.set("bandwidth_share", summary(shares));
    out.set("decode_bytes", read);
  }
  out.set("threads", engine.threads().size())
      .set("target", engine.target().name)
      .set("cpu", cpuName())
      .set("huge_pages", options.engine.hugePages);
  if (options.json) {
    std::printf("%s\n", out.print().c_str());
    return {};
  }
  std::printf("%s, %d threads, target %s\n", cpuName().c_str(), engine.threads().size(),
              engine.target().name);
  for (const char *name : {"prefill_128", "prefill_512", "decode"})
    if (const Json &s = out[name]; !s.isNull())
      std::printf("%-12s %10.1f tokens/s  (%.1f to %.1f)\n", name, s["median"].asNumber(),
                  s["min"].asNumber(), s["max"].asNumber());
  if (!rates.empty())
    std::printf("memory       %10.1f GB/s read; decode reads %.1f MB a token, %.0f %% of it\n",
                out["read_bandwidth_gbs"]["median"].asNumber(), read / 1e6,
                100 * out["bandwidth_share"]["median"].asNumber());
  return {};
}

} // namespace quern::runtime::cli
