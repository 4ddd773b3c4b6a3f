//===- Cpu.cpp - CPU features, target choice, cores -----------------------===//
//
// A feature counts only if the operating system also saves its registers.
//
//===----------------------------------------------------------------------===//
#include "quern/Runtime/Cpu.h"
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <sched.h>
#include <string>
#include <sys/syscall.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace quern::runtime {

#if defined(__x86_64__)
namespace {
enum Register { EAX, EBX, ECX, EDX };

/// Where CPUID says a feature is, and which XCR0 bits its registers need.
struct Feature {
  const char *name;
  uint32_t leaf, subleaf;
  Register reg;
  unsigned bit;
  uint64_t state;
};
constexpr uint64_t ymm = 0x6, zmm = 0xE6, tiles = 0x60000;
const Feature featureTable[] = {
    {"sse3", 1, 0, ECX, 0, 0},
    {"ssse3", 1, 0, ECX, 9, 0},
    {"fma", 1, 0, ECX, 12, ymm},
    {"sse4.1", 1, 0, ECX, 19, 0},
    {"sse4.2", 1, 0, ECX, 20, 0},
    {"movbe", 1, 0, ECX, 22, 0},
    {"popcnt", 1, 0, ECX, 23, 0},
    {"avx", 1, 0, ECX, 28, ymm},
    {"f16c", 1, 0, ECX, 29, ymm},
    {"bmi", 7, 0, EBX, 3, 0},
    {"avx2", 7, 0, EBX, 5, ymm},
    {"bmi2", 7, 0, EBX, 8, 0},
    {"avx512f", 7, 0, EBX, 16, zmm},
    {"avx512dq", 7, 0, EBX, 17, zmm},
    {"avx512ifma", 7, 0, EBX, 21, zmm},
    {"avx512cd", 7, 0, EBX, 28, zmm},
    {"avx512bw", 7, 0, EBX, 30, zmm},
    {"avx512vl", 7, 0, EBX, 31, zmm},
    {"avx512vbmi", 7, 0, ECX, 1, zmm},
    {"avx512vbmi2", 7, 0, ECX, 6, zmm},
    {"gfni", 7, 0, ECX, 8, 0},
    {"avx512vnni", 7, 0, ECX, 11, zmm},
    {"avx512bitalg", 7, 0, ECX, 12, zmm},
    {"avx512vpopcntdq", 7, 0, ECX, 14, zmm},
    {"amx-bf16", 7, 0, EDX, 22, tiles},
    {"avx512fp16", 7, 0, EDX, 23, zmm},
    {"amx-tile", 7, 0, EDX, 24, tiles},
    {"amx-int8", 7, 0, EDX, 25, tiles},
    {"avxvnni", 7, 1, EAX, 4, ymm},
    {"avx512bf16", 7, 1, EAX, 5, zmm},
    {"avxvnniint8", 7, 1, EDX, 4, ymm},
    {"lzcnt", 0x80000001, 0, ECX, 5, 0},
};

bool readCpuid(uint32_t leaf, uint32_t subleaf, uint32_t (&out)[4]) {
  return __get_cpuid_count(leaf, subleaf, &out[0], &out[1], &out[2], &out[3]) != 0;
}

uint64_t enabledState() {
  uint32_t r[4];
  if (!readCpuid(1, 0, r) || !(r[ECX] >> 27 & 1)) // OSXSAVE: XGETBV may be used
    return 0;
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t(high) << 32 | low;
}

/// Linux hands out AMX tile data only on request, once per process.
bool requestTiles() {
  constexpr long requestPermission = 0x1023, tileData = 18;
  return syscall(SYS_arch_prctl, requestPermission, tileData) == 0;
}
} // namespace

bool cpuHas(std::string_view name) {
  for (const Feature &f : featureTable) {
    if (name != f.name)
      continue;
    uint32_t r[4];
    if (!readCpuid(f.leaf, f.subleaf, r) || !(r[f.reg] >> f.bit & 1))
      return false;
    if ((enabledState() & f.state) != f.state)
      return false;
    return f.state != tiles || requestTiles();
  }
  return false;
}
#elif defined(__aarch64__)
bool cpuHas(std::string_view name) {
  unsigned long caps = getauxval(AT_HWCAP), caps2 = getauxval(AT_HWCAP2);
  if (name == "neon" || name == "fp-armv8")
    return true;
  if (name == "v8.2a") // approximated by what its users need: atomics and rdm
    return (caps >> 8 & 1) && (caps >> 12 & 1);
  if (name == "fullfp16")
    return (caps >> 9 & 1) && (caps >> 10 & 1);
  if (name == "dotprod")
    return caps >> 20 & 1;
  if (name == "i8mm")
    return caps2 >> 13 & 1;
  if (name == "bf16")
    return caps2 >> 14 & 1;
  return false;
}
#else
bool cpuHas(std::string_view) { return false; }
#endif

std::vector<std::string> missingFeatures(std::string_view features) {
  std::vector<std::string> missing;
  while (!features.empty()) {
    size_t comma = std::min(features.find(','), features.size());
    std::string_view name = features.substr(0, comma);
    features.remove_prefix(std::min(comma + 1, features.size()));
    if (!name.empty() && name[0] == '+')
      name.remove_prefix(1);
    if (!name.empty() && !cpuHas(name))
      missing.emplace_back(name);
  }
  return missing;
}

Status chooseTarget(const quern_program &program, std::string_view wanted,
                    const quern_target *&out) {
  std::string why, names;
  for (uint32_t i = 0; i < program.target_count; ++i) {
    const quern_target &t = program.targets[i];
    names += (i ? ", " : "") + std::string(t.name);
    if (!wanted.empty() && wanted != t.name)
      continue;
    std::vector<std::string> missing = missingFeatures(t.features);
    if (missing.empty()) {
      out = &t;
      return {};
    }
    why += "\n  " + std::string(t.name) + " needs";
    for (const std::string &m : missing)
      why += " " + m;
  }
  if (why.empty())
    return Status::error(QUERN_ERROR_ARGUMENT, "this program has no target '" +
                                                   std::string(wanted) + "'; it has: " + names);
  return Status::error(QUERN_ERROR_CPU, "this CPU (" + cpuName() +
                                            ") lacks what the program was compiled for:" + why);
}

/// The start of one of the kernel's files; empty if there is none.
static std::string readStart(const std::string &path) {
  std::string out;
  if (std::FILE *in = std::fopen(path.c_str(), "r")) {
    char buffer[4096];
    out.assign(buffer, std::fread(buffer, 1, sizeof buffer, in));
    std::fclose(in);
  }
  return out;
}

std::string cpuName() {
  std::string text = readStart("/proc/cpuinfo"), key = "model name";
  size_t at = text.find(key);
  size_t colon = at == std::string::npos ? at : text.find(": ", at);
  if (colon == std::string::npos)
    return "unknown";
  return text.substr(colon + 2, text.find('\n', colon) - colon - 2);
}

static std::vector<int> allowedCpus() {
  std::vector<int> cpus;
  // The kernel's mask may be larger than cpu_set_t; grow until it fits.
  for (size_t count = 1024; count <= (size_t(1) << 20); count *= 2) {
    cpu_set_t *set = CPU_ALLOC(count);
    size_t size = CPU_ALLOC_SIZE(count);
    CPU_ZERO_S(size, set);
    bool ok = set && sched_getaffinity(0, size, set) == 0;
    for (size_t i = 0; ok && i < count; ++i)
      if (CPU_ISSET_S(i, size, set))
        cpus.push_back(int(i));
    CPU_FREE(set);
    if (ok)
      break;
  }
  if (cpus.empty())
    cpus.push_back(0);
  return cpus;
}

std::vector<int> physicalCores() {
  std::vector<int> cores;
  std::vector<std::string> seen;
  for (int cpu : allowedCpus()) {
    std::string siblings = readStart("/sys/devices/system/cpu/cpu" + std::to_string(cpu) +
                                     "/topology/thread_siblings_list");
    if (siblings.empty())
      siblings = "#" + std::to_string(cpu); // unknown: count it as a core of its own
    if (std::find(seen.begin(), seen.end(), siblings) != seen.end())
      continue;
    seen.push_back(siblings);
    cores.push_back(cpu);
  }
  return cores;
}

int defaultThreads() {
  int threads = int(physicalCores().size());
  // "max 100000" or "150000 100000": quota and period in microseconds.
  double quota = 0, period = 0;
  if (std::sscanf(readStart("/sys/fs/cgroup/cpu.max").c_str(), "%lf %lf", &quota, &period) == 2 &&
      quota > 0 && period > 0)
    threads = std::min(threads, std::max(1, int((quota + period - 1) / period)));
  return threads;
}

} // namespace quern::runtime
