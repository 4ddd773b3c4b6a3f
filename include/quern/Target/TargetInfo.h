//===- TargetInfo.h - What code generation may use on a CPU -----*- C++ -*-===//
//
// One row per CPU target: the LLVM triple, CPU and feature strings, and the
// capabilities the kernel emitters ask for. The single place that knows them.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_TARGET_TARGETINFO_H
#define QUERN_TARGET_TARGETINFO_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <string>

namespace quern::target {

/// The integer dot product an emitter may build on.
enum class IntDot : uint8_t {
  Maddubs,  ///< AVX2 vpmaddubsw + vpmaddwd (u8 x s8 pairs saturate to s16)
  Vnni256,  ///< vpdpbusd on 256 bits
  Vnni512,  ///< vpdpbusd on 512 bits
  ArmDot,   ///< sdot
};

struct TargetInfo {
  std::string name;     ///< as the user types it: `x86-64-v3`, `znver4`, ...
  std::string triple;   ///< LLVM triple
  std::string cpu;      ///< LLVM -mcpu
  std::string features; ///< LLVM -mattr, "+avx2,+fma,..."
  unsigned vectorBits;  ///< preferred vector width
  IntDot intDot;
  bool amxInt8 = false;
  bool amxBf16 = false;
  bool armI8mm = false;
  /// Tuning, measured per microarchitecture: see docs/Performance.md.
  unsigned prefetchBytes = 0;
  /// Panels of weights read side by side for one token: each is a stream of its own to the
  /// prefetchers of the hardware.
  unsigned panelsAtOnce = 1;

  /// Products of int16 pairs added up in 32 bits (vpmaddwd, vpdpwssd), worth taking for bf16
  /// activations of single tokens, and of all where no tiles multiply bf16 itself.
  bool hasWordProducts() const { return isX86(); }

  bool isX86() const;
  bool isAArch64() const;
};

/// All known targets, best last. `native` is resolved by lookup(), from the features of the host.
llvm::ArrayRef<TargetInfo> knownTargets();

/// Finds a target by name; the error lists the known ones.
llvm::Expected<TargetInfo> lookup(llvm::StringRef name);

/// Whether the host can run code for `target`.
bool hostCanRun(const TargetInfo &target);

/// The targets a default (portable) executable carries.
llvm::ArrayRef<llvm::StringRef> portableTargets();

} // namespace quern::target

#endif // QUERN_TARGET_TARGETINFO_H
