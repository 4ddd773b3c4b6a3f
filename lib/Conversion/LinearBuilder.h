//===- LinearBuilder.h - Vector code for 16 rows at a target's width -*- C++ -*-===//
//
// What the emitters of linear kernels build on: 16 lanes (rows) as `parts` native vectors of
// `width` 32-bit lanes, bytes in quads of four columns, and the target's integer dot product.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_CONVERSION_LINEARBUILDER_H
#define QUERN_LIB_CONVERSION_LINEARBUILDER_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "quern/Target/TargetInfo.h"

namespace quern::conversion::detail {

using mlir::Value;
using mlir::ValueRange;
using mlir::VectorType;

/// One value per native vector of the 16 lanes.
using Parts = llvm::SmallVector<Value, 4>;

class VectorCode {
public:
  VectorCode(mlir::OpBuilder &builder, mlir::Location loc, const target::TargetInfo &target)
      : b(builder), loc(loc), target(target), width(target.vectorBits / 32),
        parts(16 / (target.vectorBits / 32)),
        module(builder.getInsertionBlock()->getParentOp()->getParentOfType<mlir::ModuleOp>()) {}

  mlir::OpBuilder &b;
  mlir::Location loc;
  const target::TargetInfo &target;
  const int64_t width;   ///< 32-bit lanes of a native vector
  const int64_t parts;   ///< native vectors that hold 16 lanes
  mlir::ModuleOp module; ///< where constant tables go

  // Types.
  VectorType bytes() const { return vec(4 * width, b.getI8Type()); }
  VectorType shorts() const { return vec(2 * width, b.getI16Type()); }
  VectorType ints() const { return vec(width, b.getI32Type()); }
  VectorType floats() const { return vec(width, b.getF32Type()); }
  VectorType vec(int64_t count, mlir::Type element) const {
    return VectorType::get({count}, element);
  }

  // Scalars of index type.
  Value index(int64_t value);
  Value add(Value a, Value c);
  Value add(Value a, int64_t c);
  Value mul(Value a, int64_t c);
  Value div(Value a, int64_t c); ///< of non-negative values
  Value rem(Value a, int64_t c);
  Value min(Value a, Value c);

  // Constants.
  Value splat(VectorType type, int64_t value);
  Value splat(VectorType type, double value);
  Value constantBytes(llvm::ArrayRef<int8_t> values);
  /// A table in the module's read-only data, shared by all that want the same.
  Value constantTable(mlir::DenseElementsAttr values);

  // Memory. Offsets count elements of the memref, which are bytes except where noted.
  Value load(Value memref, Value offset, int64_t constant, VectorType type);
  Value loadScalar(Value memref, Value offset, int64_t constant, mlir::Type type);
  void store(Value vector, Value memref, Value offset, int64_t constant);
  /// Four bytes repeated over a byte vector; an f32 over a float vector.
  Value broadcastQuad(Value memref, Value offset, int64_t constant);
  Value broadcastFloat(Value scalar) { return broadcast(floats(), scalar); }
  Value broadcast(VectorType type, Value scalar);
  /// Keeps LLVM from moving loads across: unrolled code would load far ahead, and spill.
  void fence();
  /// Fetches the cache line at `offset` + `constant` for reading, into the first cache (3) or the
  /// second (2).
  void prefetch(Value memref, Value offset, int64_t constant, unsigned cache = 3);
  Value scratch(int64_t elements, mlir::Type element);

  // Vector arithmetic; the operand's type decides between integers and floats.
  Value plus(Value a, Value c);
  Value minus(Value a, Value c);
  Value times(Value a, Value c);
  Value bitAnd(Value a, Value c);
  Value bitAnd(Value a, int64_t mask);
  Value bitOr(Value a, Value c);
  Value bitXor(Value a, int64_t mask);
  Value shiftLeft(Value a, int64_t by);
  Value shiftRight(Value a, int64_t by); ///< logical
  Value shiftRightSigned(Value a, int64_t by);
  Value shiftRight(Value a, Value byIndex);
  Value fma(Value a, Value c, Value addend);
  Value as(Value v, VectorType type); ///< bitcast
  Value toFloat(Value ints);
  Value extendUnsigned(Value v, VectorType type);
  Value extendSigned(Value v, VectorType type);
  /// f32 to the nearest bf16, ties to even, as f32. NaN is kept: its quiet bit is set, lest
  /// rounding make it infinite.
  Value roundToBF16(Value values);
  Value intrinsic(llvm::StringRef name, mlir::Type result, ValueRange operands);

  /// Bytes shifted right (left if negative) by a constant; bits cross byte borders, so mask after.
  Value shiftBytes(Value v, int64_t right);
  /// table[index] for each byte; at most 64 entries, indices in range.
  Value lookUpBytes(llvm::ArrayRef<int8_t> table, Value indices);
  /// table[index] for each 32-bit lane; in registers up to 16 entries, else through memory.
  Value lookUpFloats(llvm::ArrayRef<float> table, Value indices);

  // Loops.
  using Body = llvm::function_ref<llvm::SmallVector<Value>(Value iv, ValueRange carried)>;
  llvm::SmallVector<Value> loop(Value lower, Value upper, int64_t step, ValueRange init, Body body);
  void loop(Value lower, Value upper, int64_t step, llvm::function_ref<void(Value)> body);
  /// A loop that LLVM must not unroll: its scheduler would hoist the loads and spill them.
  llvm::SmallVector<Value> tightLoop(int64_t upper, int64_t step, ValueRange init, Body body);
  void ifElse(Value condition, llvm::function_ref<void()> then,
              llvm::function_ref<void()> otherwise);
  Value equal(Value a, Value c);
};

/// What the weight operand of the integer dot product holds.
struct DotOperand {
  bool isSigned = false; ///< s8, any value; else u8 in [0, largest]
  int largest = 255;
};

/// Sums of products of bytes for one token and one part: the target's instructions, with
/// intermediate sums kept within their types.
class DotSum {
public:
  /// Adds the four products a lane of `weight` and `x` (signed bytes in [-127, 127]).
  void add(VectorCode &v, DotOperand operand, Value weight, Value x);
  /// The same for int16: two products a lane of `weight` and `x`.
  void addWords(VectorCode &v, Value weight, Value x);
  /// The sum as 32-bit integers; there must have been an add.
  Value take(VectorCode &v);

  /// How many adds fit in 16-bit sums; without bound where sums have 32 bits from the start.
  static int64_t addsBeforeWidening(VectorCode &v, DotOperand operand);
  /// For sums that a loop carries: start from a 16-bit or 32-bit sum, end with one.
  void startFrom16(Value sum) { sum16 = sum; }
  void startFrom32(Value sum) {
    sum32[0] = sum;
    calls = 0;
    oneChain = true;
  }
  Value take16() { return sum16; }

private:
  void flush(VectorCode &v);
  Value sum16, sum32[2];
  int pending = 0;
  unsigned calls = 0;
  bool oneChain = false;
};

} // namespace quern::conversion::detail

#endif // QUERN_LIB_CONVERSION_LINEARBUILDER_H
