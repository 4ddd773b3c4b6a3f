//===- LinearEmitter.h - Kernels of linear, generated from a format -*- C++ -*-===//
//
// Emits out[t, n] = sum_k x[t, k] w[n, k] (+ bias[n]) (+ residual[t, n]) over packed weights, as
// vector, scf, arith, memref and LLVM intrinsics, at an insertion point in a function.
// The format and the target decide the code; nothing here knows a format's name.
//
// Work is divided by panels of 16 rows: any partition of [0, layout.workUnits()) gives the
// same result, bit for bit. So does any partition of the tokens.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_CONVERSION_LINEAREMITTER_H
#define QUERN_CONVERSION_LINEAREMITTER_H

#include "quern/Format/PackedLayout.h"
#include "quern/Target/TargetInfo.h"
#include "mlir/IR/Builders.h"

namespace quern::conversion {

/// In what form a linear reads its activations (see Reference/Activations.h).
enum class Activation : uint8_t {
  F32,  ///< as they are
  BF16, ///< rounded to bf16
  Q8,   ///< int8 in groups of 32 with an f32 scale
  Int8, ///< int8 with one f32 scale per token
};

/// One token's activations as kernels read them. F32 has no buffer of its own: kernels read
/// the rows themselves. The others are written by emitQuantizeActivations.
struct ActivationLayout {
  Activation kind;
  int64_t k;
  int64_t paddedK;      ///< k rounded up to 32; the excess is zero
  int64_t scalesOffset; ///< f32 [paddedK / 32], or one for Int8; codes lie at 0
  int64_t sums32Offset; ///< f32 sum of codes by 32 columns
  int64_t sums16Offset; ///< f32 by 16 columns
  int64_t sums8Offset;  ///< i16 by 8 columns
  int64_t bytes;        ///< per token, a multiple of 64
  static ActivationLayout get(Activation kind, int64_t k);
};

struct LinearDesc {
  format::Spec weight;
  int64_t n = 0, k = 0;
  Activation activation = Activation::Q8;
  bool bias = false;
  bool residual = false; ///< adds residual[t, n]; it may be `out` itself
  int64_t maxTokens = 1;
};

struct LinearOperands {
  mlir::Value x; ///< F32: memref<maxTokens x k x f32>; else memref<(maxTokens * bytes) x i8>
  mlir::Value weight;   ///< memref<layout.bytes() x i8>, 64-byte aligned
  mlir::Value bias;     ///< memref<n x f32> or null
  mlir::Value residual; ///< memref<maxTokens x n x f32> or null
  mlir::Value out;      ///< memref<maxTokens x n x f32>
  mlir::Value tokenCount, begin, end; ///< index; [begin, end) are panels
};

/// Emits the kernel's body at the builder's insertion point, for one token and for many. Stack
/// scratch is allocated there too: call it once, directly in a function's entry block.
mlir::LogicalResult emitLinear(mlir::OpBuilder &builder, mlir::Location loc, const LinearDesc &desc,
                               const target::TargetInfo &target, const LinearOperands &operands);

/// Emits the conversion of x : memref<maxTokens x k x f32>, tokens [begin, end), into
/// dest : memref<(maxTokens * bytes) x i8>. Not for Activation::F32.
void emitQuantizeActivations(mlir::OpBuilder &builder, mlir::Location loc, Activation kind,
                             int64_t k, const target::TargetInfo &target, mlir::Value x,
                             mlir::Value dest, mlir::Value begin, mlir::Value end);

} // namespace quern::conversion

#endif // QUERN_CONVERSION_LINEAREMITTER_H
