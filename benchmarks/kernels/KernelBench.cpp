//===- KernelBench.cpp - Speed of generated linear kernels ----------------===//
//
// For each format: weight bytes per second with one token (out of memory), operations per
// second with many, beside the machine's read bandwidth and dot-product peak in the same run.
//
//===----------------------------------------------------------------------===//
#include "../../test/Unit/Support/EmulateX86.h"
#include "Matrices.h"
#include "quern/Format/Known.h"
#include "llvm/Support/CommandLine.h"
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <immintrin.h>
#include <thread>
#include <time.h>

using namespace quern;
using namespace quern::conversion;
using namespace quern::test;

static llvm::cl::list<std::string> formats(llvm::cl::Positional, llvm::cl::desc("formats"));
static llvm::cl::opt<int64_t> rows("n", llvm::cl::init(2048), llvm::cl::desc("rows of the matrix"));
static llvm::cl::opt<int64_t> columns("k", llvm::cl::init(2048), llvm::cl::desc("columns"));
static llvm::cl::opt<int> threads("kernel-threads", llvm::cl::init(1), llvm::cl::desc("threads"));
static llvm::cl::opt<double> megabytes("megabytes", llvm::cl::init(96),
                                       llvm::cl::desc("weights to stream with one token"));
static llvm::cl::opt<double> seconds("figure-seconds", llvm::cl::init(0.3),
                                     llvm::cl::desc("per figure"));
static llvm::cl::opt<bool> check("verify", llvm::cl::desc("compare with the reference first"));
static llvm::cl::opt<std::string> activation("activations", llvm::cl::init("q8"),
                                             llvm::cl::desc("f32, bf16, q8 or int8"));

static llvm::cl::opt<int> prefetch("prefetch", llvm::cl::init(-1),
                                   llvm::cl::desc("bytes ahead, instead of the target's"));
static llvm::cl::opt<int> panelsAtOnce("panels", llvm::cl::init(0),
                                       llvm::cl::desc("side by side for one token, instead of the target's"));
static llvm::cl::opt<bool> assembly("assembly", llvm::cl::desc("print the code and stop"));
static llvm::cl::opt<std::string> targetName("for", llvm::cl::init("native"),
                                             llvm::cl::desc("target"));

static double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Processor time of this thread: what a busy machine leaves comparable.
static double processorNow() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

/// Runs `work(thread)` on all threads for about `seconds`; returns the least seconds
/// a run took: of processor time with one thread, of wall time with several.
static double typical(const std::function<void(int)> &work) {
  std::vector<double> times;
  double end = now() + seconds;
  do {
    double start = threads == 1 ? processorNow() : now();
    std::vector<std::thread> others;
    for (int t = 1; t < threads; ++t)
      others.emplace_back(work, t);
    work(0);
    for (std::thread &other : others)
      other.join();
    times.push_back((threads == 1 ? processorNow() : now()) - start);
  } while (now() < end || times.size() < 3);
  std::sort(times.begin(), times.end());
  return times.front();
}

static volatile int sink;

/// Two streams, prefetched: more requests in flight.
__attribute__((target("avx2"))) static void readAll(const uint8_t *data, size_t size) {
  __m256i sum[4] = {};
  size_t half = size / 256 * 128;
  for (size_t i = 0; i < half; i += 64)
    for (int stream = 0; stream < 2; ++stream) {
      const uint8_t *p = data + stream * half + i;
      _mm_prefetch(p + 1536, _MM_HINT_T0);
      for (int j = 0; j < 2; ++j)
        sum[2 * stream + j] =
            _mm256_xor_si256(sum[2 * stream + j], _mm256_load_si256((const __m256i *)(p + 32 * j)));
    }
  sink = _mm256_extract_epi32(
      _mm256_xor_si256(_mm256_xor_si256(sum[0], sum[1]), _mm256_xor_si256(sum[2], sum[3])), 0);
}

/// Operations a second of `step`, which does `operations`, from registers alone.
template <typename Step> static double gopsOf(double operations, Step step) {
  constexpr int64_t count = 1000000;
  double start = processorNow();
  for (int64_t i = 0; i < count; ++i)
    step();
  return double(count) * operations / (processorNow() - start) / 1e9;
}

/// maddubs + 16-bit add: 64 operations in each of ten chains.
__attribute__((target("avx2"))) static double maddubsPeak() {
  __m256i sum[10] = {}, a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(char(sink | 1));
  double peak = gopsOf(10 * 64, [&]() __attribute__((target("avx2"))) {
    for (__m256i &s : sum) {
      asm volatile("" : "+x"(a));
      s = _mm256_add_epi16(s, _mm256_maddubs_epi16(a, b));
    }
  });
  for (__m256i &s : sum)
    sink = sink + _mm256_extract_epi32(s, 0);
  return peak;
}

/// vpdpbusd: 128 operations in each of ten chains.
static double vnniPeak() {
  return gopsOf(10 * 128, [] {
    asm volatile("vpdpbusd %%zmm30, %%zmm31, %%zmm0\n vpdpbusd %%zmm30, %%zmm31, %%zmm1\n"
                 "vpdpbusd %%zmm30, %%zmm31, %%zmm2\n vpdpbusd %%zmm30, %%zmm31, %%zmm3\n"
                 "vpdpbusd %%zmm30, %%zmm31, %%zmm4\n vpdpbusd %%zmm30, %%zmm31, %%zmm5\n"
                 "vpdpbusd %%zmm30, %%zmm31, %%zmm6\n vpdpbusd %%zmm30, %%zmm31, %%zmm7\n"
                 "vpdpbusd %%zmm30, %%zmm31, %%zmm8\n vpdpbusd %%zmm30, %%zmm31, %%zmm9\n" ::
                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                       "xmm9");
  });
}

/// Products of whole tiles (16 x 16 x 64 bytes) in four chains; the process may use tiles.
static double tilePeak(bool bf16) {
  alignas(64) uint8_t config[64] = {1};
  for (int tile = 0; tile < 8; ++tile) {
    config[16 + 2 * tile] = 64;
    config[48 + tile] = 16;
  }
  asm volatile("ldtilecfg %0" ::"m"(config));
  asm volatile("tilezero %%tmm0\n tilezero %%tmm1\n tilezero %%tmm2\n tilezero %%tmm3\n"
               "tilezero %%tmm4\n tilezero %%tmm6\n" ::);
  double operations = 4.0 * 16 * 16 * (bf16 ? 32 : 64) * 2;
  double peak = bf16 ? gopsOf(operations,
                              [] {
                                asm volatile("tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n"
                                             "tdpbf16ps %%tmm6, %%tmm4, %%tmm1\n"
                                             "tdpbf16ps %%tmm6, %%tmm4, %%tmm2\n"
                                             "tdpbf16ps %%tmm6, %%tmm4, %%tmm3\n" ::);
                              })
                     : gopsOf(operations, [] {
                         asm volatile("tdpbssd %%tmm6, %%tmm4, %%tmm0\n"
                                      "tdpbssd %%tmm6, %%tmm4, %%tmm1\n"
                                      "tdpbssd %%tmm6, %%tmm4, %%tmm2\n"
                                      "tdpbssd %%tmm6, %%tmm4, %%tmm3\n" ::);
                       });
  asm volatile("tilerelease" ::);
  return peak;
}

int main(int argc, char **argv) {
  llvm::cl::ParseCommandLineOptions(argc, argv, "Speed of generated linear kernels\n");
  if (formats.empty())
    for (const char *name : {"q4_0", "q8_0", "q4_K", "q6_K", "int3_g24"})
      formats.push_back(name);
  auto target = target::lookup(targetName);
  if (!target) {
    std::fprintf(stderr, "%s\n", llvm::toString(target.takeError()).c_str());
    return 1;
  }
  if (!assembly && !target::hostCanRun(*target))
    return 1;
  if (prefetch >= 0)
    target->prefetchBytes = prefetch;
  if (panelsAtOnce > 0)
    target->panelsAtOnce = panelsAtOnce;
  size_t probeBytes = size_t(megabytes * 1e6) / 256 * 256;
  Buffer probe(probeBytes);
  std::memset(probe.get(), 1, probeBytes);
  auto bandwidth = [&] {
    return probeBytes / 1e9 / typical([&](int t) {
             size_t share = probeBytes / threads / 128 * 128;
             readAll(probe.get() + t * share, share);
           });
  };
  bool tiles = activation == "bf16" ? target->amxBf16 : target->amxInt8;
  if (!assembly)
    requestTiles(*target);
  double peak = assembly ? 0 : threads * (tiles ? tilePeak(activation == "bf16")
                           : target->intDot == target::IntDot::Vnni512 ? vnniPeak()
                                                                      : maddubsPeak());
  std::printf("%s, %d thread(s), %ld x %ld, peak %.0f GOPS (%s)\n", target->name.c_str(),
              int(threads), long(rows), long(columns), peak,
              tiles ? "tiles"
              : target->intDot == target::IntDot::Vnni512 ? "vpdpbusd"
                                                          : "vpmaddubsw");
  if (tiles && !assembly)
    std::printf("vpdpbusd alone: %.0f GOPS\n", threads * vnniPeak());
  std::printf("%-14s %9s %9s %9s %6s | %9s %9s %6s | %s\n", "format", "bits/w", "GB/s", "read",
              "ratio", "M=128", "M=512", "peak", "compile s (instructions)");
  Activation act = activation == "f32"    ? Activation::F32
                   : activation == "bf16" ? Activation::BF16
                   : activation == "int8" ? Activation::Int8
                                          : Activation::Q8;
  for (const std::string &name : formats) {
    auto spec = format::parse(name);
    if (!spec) {
      std::fprintf(stderr, "%s\n", llvm::toString(spec.takeError()).c_str());
      return 1;
    }
    LinearDesc desc;
    desc.weight = *spec;
    desc.n = rows;
    desc.k = columns;
    desc.activation = act;
    desc.maxTokens = 512;
    if (assembly) {
      auto text = translateKernel(desc, *target, Output::Assembly);
      std::printf("%s\n", text ? text->c_str() : llvm::toString(text.takeError()).c_str());
      continue;
    }
    auto matrix = makeMatrix(*spec, rows, columns, Fill::Random, 1);
    auto kernel = compileKernel(desc, *target);
    if (!matrix || !kernel) {
      std::fprintf(stderr, "%s\n",
                   llvm::toString(matrix ? kernel.takeError() : matrix.takeError()).c_str());
      return 1;
    }
    if (check) {
      std::string difference = checkKernel(*kernel, desc, *matrix, {1, 5}, 1);
      if (!difference.empty())
        std::printf("%s: %s\n", name.c_str(), difference.c_str());
    }
    int64_t bytes = matrix->layout.bytes(), panels = matrix->layout.panels();
    int64_t copies = std::max<int64_t>(1, int64_t(megabytes * 1e6) / bytes);
    int64_t stride = (bytes + 4095) / 4096 * 4096;
    Buffer weights(copies * stride);
    for (int64_t i = 0; i < copies; ++i)
      std::memcpy(weights.get() + i * stride, matrix->packed.get(), bytes);
    std::vector<float> x = makeActivations(512, columns, 3), out(512 * rows);
    ActivationLayout layout = ActivationLayout::get(act, columns);
    Buffer quantized(512 * layout.bytes);
    if (kernel->quantize)
      kernel->quantize(x.data(), quantized.get(), 0, 512);
    const void *input = kernel->quantize ? static_cast<const void *>(quantized.get()) : x.data();
    auto run = [&](const uint8_t *w, int64_t tokens, int thread) {
      kernel->linear(input, w, nullptr, nullptr, out.data(), tokens, panels * thread / threads,
                     panels * (thread + 1) / threads);
    };
    double read = bandwidth();
    double one = double(bytes) * copies / 1e9 / typical([&](int t) {
                   for (int64_t i = 0; i < copies; ++i)
                     run(weights.get() + i * stride, 1, t);
                 });
    auto gops = [&](int64_t tokens) {
      return 2.0 * rows * columns * tokens / 1e9 /
             typical([&](int t) { run(weights.get(), tokens, t); });
    };
    double g128 = gops(128), g512 = gops(512);
    std::printf("%-14s %9.3f %9.1f %9.1f %6.2f | %9.0f %9.0f %6.2f | %.2f + %.2f + %.2f (%zu)\n",
                name.c_str(), 8.0 * bytes / (double(rows) * columns), one, read, one / read, g128,
                g512, g512 / peak, kernel->lowerSeconds, kernel->optimizeSeconds,
                kernel->codegenSeconds, kernel->instructions);
    std::fflush(stdout);
  }
}
