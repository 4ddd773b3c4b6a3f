//===- EmulateX86.h - Runs AVX-512 and AMX code on hosts without them -*- C++ -*-===//
//
// Rewrites a module that was optimized for one x86 target, intrinsic by intrinsic, until any AVX2
// host can run it; all else stays as the product emits it. Tiles are kept, and their rules
// checked, by TileUnit.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_TEST_UNIT_SUPPORT_EMULATEX86_H
#define QUERN_TEST_UNIT_SUPPORT_EMULATEX86_H

#include "quern/Target/TargetInfo.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/Error.h"
#include <string>
#include <vector>

namespace quern::test {

/// The x86 targets that tests run: those of this host natively, the others emulated on x86-64-v3.
/// Empty where the host has not even that.
std::vector<target::TargetInfo> x86Targets();

/// Whether `target`'s code has to be rewritten to run here. Says on standard output, once for
/// each target, which way it goes. With QUERN_TEST_EMULATE in the environment, everything but
/// x86-64-v3 has to, whatever the host has.
bool needsEmulation(const target::TargetInfo &target);

/// Asks the system for the tile registers, where `target` has them and runs natively.
void requestTiles(const target::TargetInfo &target);

/// What code generation must be set to: `target`, or x86-64-v3 where it is emulated.
target::TargetInfo executionTarget(const target::TargetInfo &target);

/// Replaces what x86-64-v3 lacks, and the functions' target attributes. Fails for an intrinsic
/// it does not know.
llvm::Error emulateOnV3(llvm::Module &module);

/// Defines the functions that emulated tile instructions call.
llvm::Error defineTileFunctions(llvm::orc::LLJIT &jit);

/// The emulated tile registers of this thread.
class TileUnit {
public:
  static TileUnit &get();
  /// Products since the last call: proof that a kernel used tiles.
  static int64_t takeProducts();
  /// Whether a kernel returned without tilerelease.
  bool inUse() const { return configured; }

  void configure(const uint8_t *config);
  void release();
  void zero(int tile);
  void load(int tile, const uint8_t *from, int64_t stride);
  void store(int tile, uint8_t *to, int64_t stride);
  enum class Bytes { SignedUnsigned, UnsignedSigned, SignedSigned, UnsignedUnsigned };
  void dotBytes(Bytes kinds, int sum, int a, int b);
  void dotBF16(int sum, int a, int b);

private:
  struct Tile {
    int rows = 0, bytes = 0; ///< bytes of a row
    uint8_t data[16][64];
  };
  Tile &at(int tile);
  void checkProduct(const Tile &sum, const Tile &a, const Tile &b);

  bool configured = false;
  int64_t products = 0;
  Tile tiles[8];
};

} // namespace quern::test

#endif // QUERN_TEST_UNIT_SUPPORT_EMULATEX86_H
