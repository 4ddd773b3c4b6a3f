//===- TileEmitter.h - Building blocks of lowered tiles ---------*- C++ -*-===//
//
// A thin layer over the builders of arith, math, scf, memref and vector that the
// lowerings of tile operations share: flat views, loops, chunked rows, exp.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_CONVERSION_TILEEMITTER_H
#define QUERN_CONVERSION_TILEEMITTER_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "quern/Target/TargetInfo.h"

namespace quern {

/// Emits code at the insertion point of `b`. Values are `index`, f32, i32 scalars or
/// vectors of them; memrefs handed to load and store are one-dimensional (see flat()).
struct TileEmitter {
  using Value = mlir::Value;
  using ValueRange = mlir::ValueRange;
  using Body = llvm::function_ref<void(Value)>;
  using Chunk = llvm::function_ref<void(Value offset, unsigned lanes)>;
  using Reduction = llvm::function_ref<llvm::SmallVector<Value>(Value index, ValueRange carried)>;

  mlir::ImplicitLocOpBuilder &b;
  const target::TargetInfo &target;

  /// f32 lanes of the target's preferred vector.
  unsigned lanes() const { return target.vectorBits / 32; }

  // Types and constants.
  mlir::VectorType vec(unsigned n) { return mlir::VectorType::get(n, b.getF32Type()); }
  Value index(int64_t v) { return mlir::arith::ConstantIndexOp::create(b, v); }
  Value f32(float v) { return mlir::arith::ConstantOp::create(b, b.getF32FloatAttr(v)); }
  Value i32(int32_t v) { return mlir::arith::ConstantOp::create(b, b.getI32IntegerAttr(v)); }
  /// A constant of the type of `like` (f32, or a vector of it).
  Value constantLike(Value like, float v);
  Value splat(float v, unsigned n);
  Value broadcast(Value scalar, unsigned n);

  // Index and float arithmetic. Floats are f32 or f64, scalar or vector.
  Value add(Value x, Value y);
  Value sub(Value x, Value y);
  Value mul(Value x, Value y);
  Value div(Value x, Value y); ///< index: unsigned
  Value rem(Value x, Value y);
  Value min(Value x, Value y); ///< index: unsigned; float: y unless x < y
  Value max(Value x, Value y);
  Value fma(Value x, Value y, Value z);
  Value select(Value c, Value x, Value y) { return mlir::arith::SelectOp::create(b, c, x, y); }
  Value less(Value x, Value y);    ///< index: signed; float: ordered
  Value greater(Value x, Value y); ///< float: ordered
  Value sum(Value vector);
  Value maximum(Value vector);
  Value toIndex(Value i) { return mlir::arith::IndexCastOp::create(b, b.getIndexType(), i); }
  Value toI32(Value i) { return mlir::arith::IndexCastOp::create(b, b.getI32Type(), i); }

  /// exp(x) to 2 units in the last place; 0 below -87.3, infinity above 88.7, NaN for NaN.
  Value exp(Value x);
  /// 1 / (1 + exp(-x)).
  Value sigmoid(Value x);

  // Memory.
  /// A dense (or slot-strided) memref as one dimension.
  Value flat(Value memref);
  /// `n` elements at `at`, widened to f32. n = 0 loads a scalar.
  Value load(Value flat, Value at, unsigned n = 0);
  /// The same without widening.
  Value loadRaw(Value flat, Value at, unsigned n = 0);
  /// Stores f32 values, rounded to the element type (f16 and bf16: to nearest even).
  void store(Value value, Value flat, Value at);
  void storeRaw(Value value, Value flat, Value at);
  Value stack(llvm::ArrayRef<int64_t> shape, mlir::Type element);

  // Control flow.
  void loop(Value lo, Value hi, int64_t step, Body body);
  llvm::SmallVector<Value> reduce(Value lo, Value hi, int64_t step, ValueRange init,
                                  Reduction body);
  /// Covers [0, length) in vectors of `width` lanes, the tail in one shorter vector.
  void chunks(int64_t length, unsigned width, Chunk body);
  /// Sums f(offset, n) over [0, length), in four vectors where long enough.
  Value sumOver(int64_t length, llvm::function_ref<Value(Value offset, unsigned n)> f);
  void when(Value condition, llvm::function_ref<void()> then);
};

} // namespace quern

#endif // QUERN_CONVERSION_TILEEMITTER_H
