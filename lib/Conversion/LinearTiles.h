//===- LinearTiles.h - AMX tile registers -----------------------*- C++ -*-===//
//
// Products of 16 tokens with the 16 rows of a panel. Tiles are named by number, not left to LLVM's
// register allocator: three kinds are all a kernel needs, and a test can stand in for the
// instructions one by one.
//
// A panel's unpacked codes are what the right-hand tile wants, as they lie: a row holds a
// quad of columns (a pair, for bf16) of 16 weights' rows.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_CONVERSION_LINEARTILES_H
#define QUERN_LIB_CONVERSION_LINEARTILES_H

#include "LinearBuilder.h"
#include <algorithm>

namespace quern::conversion::detail {

class TileCode {
public:
  static constexpr int64_t tokens = 16;
  /// Tiles of sums [token][row of the panel], 4 bytes each; of tokens [token][columns]; of
  /// weights [columns by 4 bytes][row][4 bytes].
  static constexpr int sums = 0, left = 4, right = 6;
  static constexpr int sumTiles = 4, leftTiles = 2, rightTiles = 2;

  /// Products of `columnBytes` bytes of each token at a time: at most 64, a multiple of 4.
  TileCode(VectorCode &v, int64_t columnBytes) : v(v), columnBytes(columnBytes) {}

  /// Before the first and after the last use in a kernel. No calls in between.
  void configure();
  void release() { call("llvm.x86.tilerelease", {}); }

  void zero(int tile) { call("llvm.x86.tilezero", {number(tile)}); }
  /// Rows `stride` bytes apart. The offset counts elements of the memref.
  void load(int tile, Value memref, Value offset, int64_t stride) {
    call("llvm.x86.tileloadd64", {number(tile), address(memref, offset), strideOf(stride)});
  }
  void store(int tile, Value memref, Value offset, int64_t stride) {
    call("llvm.x86.tilestored64", {number(tile), address(memref, offset), strideOf(stride)});
  }
  /// Signed bytes of `a` by signed or unsigned ones of `c`, into 32-bit integers.
  void dotBytes(int sum, int a, int c, bool isSigned) {
    call(isSigned ? "llvm.x86.tdpbssd" : "llvm.x86.tdpbsud", {number(sum), number(a), number(c)});
  }
  /// Into f32; subnormals count as zero.
  void dotBF16(int sum, int a, int c) {
    call("llvm.x86.tdpbf16ps", {number(sum), number(a), number(c)});
  }

  /// Whether tiles can be loaded from the buffer: its address is all there is to know.
  static bool canLoad(Value memref) {
    return mlir::cast<mlir::MemRefType>(memref.getType()).getLayout().isIdentity();
  }

  /// How many tokens, whose activations take `bytes` each, stay in three quarters of the
  /// second-level cache (2 MB a core wherever there are tiles) beside the weights.
  static int64_t tokensInCache(int64_t bytes) {
    return std::clamp<int64_t>((3 << 19) / bytes / 64 * 64, 64, 512);
  }

private:
  void call(llvm::StringRef name, ValueRange operands);
  Value number(int tile);
  Value strideOf(int64_t bytes);
  Value address(Value memref, Value offset);

  VectorCode &v;
  const int64_t columnBytes;
};

} // namespace quern::conversion::detail

#endif // QUERN_LIB_CONVERSION_LINEARTILES_H
