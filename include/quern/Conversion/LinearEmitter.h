//===- LinearEmitter.h - Kernels of linear, generated from a format -*- C++ -*-===//
//
// Emits out[t, n] = sum_k x[t, k] w[n, k] (+ bias[n]) (+ residual[t, n]) over packed weights, as
// vector, scf, arith, memref and LLVM intrinsics, at an insertion point in a function.
// The format and the target decide the code; nothing here knows a format's name.
//
// Work is divided by panels of 16 rows: any partition of [0, layout.workUnits()) gives the
// same result, bit for bit. So does any partition of the tokens, but for int8 and bf16
// activations on a target with AMX, where it changes the order of sums.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_CONVERSION_LINEAREMITTER_H
#define QUERN_CONVERSION_LINEAREMITTER_H

#include "mlir/IR/Builders.h"
#include "quern/Conversion/LinearDesc.h"
#include "quern/Target/TargetInfo.h"

namespace quern::conversion {

struct LinearOperands {
  mlir::Value x;        ///< F32: memref<maxTokens x k x f32>; else memref<(maxTokens * bytes) x i8>
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

/// The constants of static int8 activations (Reference/Activations.h).
struct StaticActivations {
  float scale = 1;
  int32_t zero = 0;
};

struct QuantizeActivations {
  std::optional<StaticActivations> constants; ///< of Int8 with codes of 8 bits
  /// 127, or 7: codes of four bits, each in a byte, of Q8 and Int8. Products do not differ.
  int64_t largestCode = 127;
  int64_t plain = 0; ///< columns in front that stay f32, of Int8: see ActivationLayout
  std::optional<float> outlierThreshold; ///< values of this magnitude or more count as 0
};

/// Emits the conversion of x : memref<maxTokens x k x f32>, tokens [begin, end), into
/// dest : memref<(maxTokens * bytes) x i8>. Not for Activation::F32.
void emitQuantizeActivations(mlir::OpBuilder &builder, mlir::Location loc, Activation kind,
                             int64_t k, const target::TargetInfo &target, mlir::Value x,
                             mlir::Value dest, mlir::Value begin, mlir::Value end,
                             const QuantizeActivations &options = {});

} // namespace quern::conversion

#endif // QUERN_CONVERSION_LINEAREMITTER_H
