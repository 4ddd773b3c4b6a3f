//===- TargetInfo.cpp - The table of CPU targets --------------------------===//
//
// One row per target. Features are spelled out, because LLVM's CPU detection
// can be wrong under virtualization and an executable must check what it uses.
//
//===----------------------------------------------------------------------===//
#include "quern/Target/TargetInfo.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/TargetParser/Host.h"

using namespace llvm;

namespace quern::target {

static const char *const linuxX86 = "x86_64-unknown-linux-gnu";
static const char *const avx2Features = "+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+movbe,+popcnt";
static const char *const vnniFeatures =
    "+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+movbe,+popcnt,+avx512f,+avx512bw,+avx512cd,+avx512dq,"
    "+avx512vl,+avx512vnni,+avx512vbmi";
static const char *const znver4Features =
    "+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+movbe,+popcnt,+avx512f,+avx512bw,+avx512cd,+avx512dq,"
    "+avx512vl,+avx512vnni,+avx512vbmi,+avx512bf16";
static const char *const amxFeatures =
    "+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+movbe,+popcnt,+avx512f,+avx512bw,+avx512cd,+avx512dq,"
    "+avx512vl,+avx512vnni,+avx512vbmi,+avx512bf16,+amx-tile,+amx-int8,+amx-bf16";

bool TargetInfo::isX86() const { return StringRef(triple).starts_with("x86_64"); }
bool TargetInfo::isAArch64() const { return StringRef(triple).starts_with("aarch64"); }

ArrayRef<TargetInfo> knownTargets() {
  static const TargetInfo targets[] = {
      {.name = "aarch64", .triple = "aarch64-unknown-linux-gnu", .cpu = "generic",
       .features = "+v8.2a,+dotprod,+i8mm,+fullfp16", .vectorBits = 128, .intDot = IntDot::ArmDot,
       .armI8mm = true},
      {.name = "x86-64-v3", .triple = linuxX86, .cpu = "x86-64-v3", .features = avx2Features,
       .vectorBits = 256, .intDot = IntDot::Maddubs, .prefetchBytes = 2304},
      {.name = "icelake-server", .triple = linuxX86, .cpu = "icelake-server",
       .features = vnniFeatures, .vectorBits = 512, .intDot = IntDot::Vnni512, .prefetchBytes = 1152},
      {.name = "znver4", .triple = linuxX86, .cpu = "znver4", .features = znver4Features,
       .vectorBits = 512, .intDot = IntDot::Vnni512, .prefetchBytes = 2304},
      {.name = "sapphirerapids", .triple = linuxX86, .cpu = "sapphirerapids",
       .features = amxFeatures, .vectorBits = 512, .intDot = IntDot::Vnni512, .amxInt8 = true,
       .amxBf16 = true, .prefetchBytes = 1152, .panelsAtOnce = 4},
  };
  return targets;
}

bool hostCanRun(const TargetInfo &target) {
  if (!target.isX86() || !sys::getDefaultTargetTriple().starts_with("x86_64"))
    return false;
  StringMap<bool> host = sys::getHostCPUFeatures();
  SmallVector<StringRef> needed;
  StringRef(target.features).split(needed, ',');
  return all_of(needed, [&](StringRef f) { return host.lookup(f.drop_front()); });
}

Expected<TargetInfo> lookup(StringRef name) {
  if (name == "native") {
    for (const TargetInfo &t : reverse(knownTargets()))
      if (hostCanRun(t))
        return t;
    return createStringError("target 'native': this host runs none of the known targets; "
                             "x86-64-v3 (AVX2, FMA, F16C) is the least");
  }
  SmallVector<StringRef> names;
  for (const TargetInfo &t : knownTargets()) {
    if (t.name == name)
      return t;
    names.push_back(t.name);
  }
  return createStringError("unknown target '" + name + "'; known targets: native, " +
                           join(names, ", "));
}

ArrayRef<StringRef> portableTargets() {
  static const StringRef names[] = {"x86-64-v3", "icelake-server", "sapphirerapids"};
  return names;
}

} // namespace quern::target
