//===- TileEmitter.cpp - Building blocks of lowered tiles -----------------===//
//
// See the header. Nothing here knows an operation of the kernel dialect.
//
//===----------------------------------------------------------------------===//
#include "quern/Conversion/TileEmitter.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Interfaces/FunctionInterfaces.h"

using namespace mlir;

namespace quern {

static bool isFloat(Value v) { return isa<FloatType>(getElementTypeOrSelf(v.getType())); }

Value TileEmitter::constantLike(Value like, float v) {
  Type type = like.getType();
  TypedAttr attr = b.getFloatAttr(getElementTypeOrSelf(type), v);
  if (auto vector = dyn_cast<VectorType>(type))
    attr = DenseElementsAttr::get(vector, attr);
  return arith::ConstantOp::create(b, attr);
}
Value TileEmitter::splat(float v, unsigned n) {
  if (n == 0)
    return f32(v);
  return arith::ConstantOp::create(b, DenseElementsAttr::get(vec(n), v));
}
Value TileEmitter::broadcast(Value scalar, unsigned n) {
  if (n == 0)
    return scalar;
  return vector::BroadcastOp::create(b, VectorType::get(n, scalar.getType()), scalar);
}

Value TileEmitter::add(Value x, Value y) {
  return isFloat(x) ? Value(arith::AddFOp::create(b, x, y)) : Value(arith::AddIOp::create(b, x, y));
}
Value TileEmitter::sub(Value x, Value y) {
  return isFloat(x) ? Value(arith::SubFOp::create(b, x, y)) : Value(arith::SubIOp::create(b, x, y));
}
Value TileEmitter::mul(Value x, Value y) {
  return isFloat(x) ? Value(arith::MulFOp::create(b, x, y)) : Value(arith::MulIOp::create(b, x, y));
}
Value TileEmitter::div(Value x, Value y) {
  return isFloat(x) ? Value(arith::DivFOp::create(b, x, y))
                    : Value(arith::DivUIOp::create(b, x, y));
}
Value TileEmitter::rem(Value x, Value y) { return arith::RemUIOp::create(b, x, y); }
Value TileEmitter::less(Value x, Value y) {
  if (isFloat(x))
    return arith::CmpFOp::create(b, arith::CmpFPredicate::OLT, x, y);
  return arith::CmpIOp::create(b, arith::CmpIPredicate::slt, x, y);
}
Value TileEmitter::greater(Value x, Value y) {
  return arith::CmpFOp::create(b, arith::CmpFPredicate::OGT, x, y);
}
Value TileEmitter::min(Value x, Value y) {
  return isFloat(x) ? select(less(x, y), x, y) : Value(arith::MinUIOp::create(b, x, y));
}
Value TileEmitter::max(Value x, Value y) {
  return isFloat(x) ? select(greater(x, y), x, y) : Value(arith::MaxUIOp::create(b, x, y));
}
Value TileEmitter::fma(Value x, Value y, Value z) { return math::FmaOp::create(b, x, y, z); }
Value TileEmitter::sum(Value vector) {
  // Pairwise, so that the order is the same whatever the target's reduction would be.
  auto type = cast<VectorType>(vector.getType());
  int64_t n = type.getNumElements();
  while (n > 1 && n % 2 == 0) {
    SmallVector<int64_t> low(n / 2), high(n / 2);
    for (int64_t i = 0; i < n / 2; ++i)
      low[i] = i, high[i] = i + n / 2;
    vector = add(vector::ShuffleOp::create(b, vector, vector, low),
                 vector::ShuffleOp::create(b, vector, vector, high));
    n /= 2;
  }
  if (n == 1)
    return vector::ExtractOp::create(b, vector, 0);
  return vector::ReductionOp::create(b, vector::CombiningKind::ADD, vector);
}
Value TileEmitter::maximum(Value vector) {
  int64_t n = cast<VectorType>(vector.getType()).getNumElements();
  while (n > 1) {
    assert(n % 2 == 0 && "maximum of a power of two");
    SmallVector<int64_t> low(n / 2), high(n / 2);
    for (int64_t i = 0; i < n / 2; ++i)
      low[i] = i, high[i] = i + n / 2;
    vector = max(vector::ShuffleOp::create(b, vector, vector, low),
                 vector::ShuffleOp::create(b, vector, vector, high));
    n /= 2;
  }
  return vector::ExtractOp::create(b, vector, 0);
}

// 2^n * p(r) with n = round(x log2 e) and r = x - n ln 2 in two parts. p is the Taylor
// polynomial of degree 7 on |r| <= 0.347, whose error (6e-9) lies below f32 rounding.
Value TileEmitter::exp(Value x) {
  Type type = x.getType();
  Type i32Type = b.getI32Type();
  if (auto vector = dyn_cast<VectorType>(type))
    i32Type = VectorType::get(vector.getShape(), i32Type);
  auto c = [&](float v) { return constantLike(x, v); };
  auto intConstant = [&](int32_t v) -> Value {
    TypedAttr attr = b.getI32IntegerAttr(v);
    if (auto vector = dyn_cast<VectorType>(i32Type))
      attr = DenseElementsAttr::get(vector, v);
    return arith::ConstantOp::create(b, attr);
  };
  const float lowest = -87.33654f, highest = 88.72283f;
  // select(x < lo, lo, x) keeps NaN.
  Value clamped = select(less(x, c(lowest)), c(lowest), x);
  clamped = select(greater(clamped, c(highest)), c(highest), clamped);
  Value n = math::RoundEvenOp::create(b, mul(clamped, c(1.44269504f)));
  Value r = fma(n, c(-0.693359375f), clamped);
  r = fma(n, c(2.12194440e-4f), r);
  Value p = c(1.0f / 5040);
  for (float coefficient : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
    p = fma(p, r, c(coefficient));
  // Two factors, because n = 128 has no f32 power of its own. A NaN converts to poison, so
  // keep it out of the integer part.
  Value finite = select(arith::CmpFOp::create(b, arith::CmpFPredicate::ORD, n, n), n, c(0));
  Value exponent = arith::FPToSIOp::create(b, i32Type, finite);
  Value half = arith::ShRSIOp::create(b, exponent, intConstant(1));
  auto power = [&](Value e) -> Value {
    Value biased = arith::AddIOp::create(b, e, intConstant(127));
    return arith::BitcastOp::create(b, type, arith::ShLIOp::create(b, biased, intConstant(23)));
  };
  Value result = mul(mul(p, power(half)), power(arith::SubIOp::create(b, exponent, half)));
  result = select(less(x, c(lowest)), c(0), result);
  return select(greater(x, c(highest)), c(INFINITY), result);
}

Value TileEmitter::sigmoid(Value x) {
  Value one = constantLike(x, 1);
  return div(one, add(one, exp(arith::NegFOp::create(b, x))));
}

Value TileEmitter::flat(Value memref) {
  auto type = cast<MemRefType>(memref.getType());
  int64_t size = type.getNumElements();
  auto flatType = MemRefType::get({size}, type.getElementType());
  if (type == flatType)
    return memref;
  return memref::ReinterpretCastOp::create(b, flatType, memref, /*offset=*/int64_t(0),
                                           ArrayRef<int64_t>{size}, ArrayRef<int64_t>{1});
}
Value TileEmitter::loadRaw(Value flat, Value at, unsigned n) {
  Type element = cast<MemRefType>(flat.getType()).getElementType();
  if (n == 0)
    return memref::LoadOp::create(b, flat, at);
  return vector::LoadOp::create(b, VectorType::get(n, element), flat, at);
}
Value TileEmitter::load(Value flat, Value at, unsigned n) {
  Value raw = loadRaw(flat, at, n);
  Type element = getElementTypeOrSelf(raw.getType());
  Type wide = n ? Type(vec(n)) : b.getF32Type();
  if (element.isInteger())
    return arith::SIToFPOp::create(b, wide, raw);
  return element.isF32() ? raw : Value(arith::ExtFOp::create(b, wide, raw));
}
void TileEmitter::store(Value value, Value flat, Value at) {
  Type element = cast<MemRefType>(flat.getType()).getElementType();
  if (!element.isF32()) {
    Type narrow = element;
    if (auto vector = dyn_cast<VectorType>(value.getType()))
      narrow = VectorType::get(vector.getShape(), element);
    value = arith::TruncFOp::create(b, narrow, value);
  }
  storeRaw(value, flat, at);
}
void TileEmitter::storeRaw(Value value, Value flat, Value at) {
  if (isa<VectorType>(value.getType()))
    vector::StoreOp::create(b, value, flat, at);
  else
    memref::StoreOp::create(b, value, flat, at);
}
Value TileEmitter::stack(ArrayRef<int64_t> shape, Type element) {
  // At the function's start, so that no loop around the tile grows the stack.
  OpBuilder::InsertionGuard guard(b);
  auto function = b.getInsertionBlock()->getParentOp();
  while (!isa<FunctionOpInterface>(function))
    function = function->getParentOp();
  b.setInsertionPointToStart(&function->getRegion(0).front());
  return memref::AllocaOp::create(b, MemRefType::get(shape, element), b.getI64IntegerAttr(64));
}

void TileEmitter::loop(Value lo, Value hi, int64_t step, Body body) {
  auto loop = scf::ForOp::create(b, lo, hi, index(step));
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(loop.getBody());
  body(loop.getInductionVar());
}
SmallVector<Value> TileEmitter::reduce(Value lo, Value hi, int64_t step, ValueRange init,
                                       Reduction body) {
  auto loop = scf::ForOp::create(b, lo, hi, index(step), init);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(loop.getBody());
  scf::YieldOp::create(b, body(loop.getInductionVar(), loop.getRegionIterArgs()));
  return SmallVector<Value>(loop.getResults());
}
void TileEmitter::chunks(int64_t length, unsigned width, Chunk body) {
  int64_t whole = length / width * width;
  if (whole)
    loop(index(0), index(whole), width, [&](Value at) { body(at, width); });
  if (length > whole)
    body(index(whole), length - whole);
}
Value TileEmitter::sumOver(int64_t length, llvm::function_ref<Value(Value, unsigned)> f) {
  unsigned width = lanes();
  int64_t unroll = length >= 4 * width ? 4 : 1, step = unroll * width;
  int64_t whole = length / step * step;
  Value total;
  auto accumulate = [&](Value v) { total = total ? add(total, v) : v; };
  if (whole) {
    SmallVector<Value> zeros(unroll, splat(0, width));
    SmallVector<Value> sums =
        reduce(index(0), index(whole), step, zeros, [&](Value at, ValueRange carried) {
          SmallVector<Value> next;
          for (int64_t i = 0; i < unroll; ++i)
            next.push_back(add(carried[i], f(add(at, index(i * width)), width)));
          return next;
        });
    Value all = sums[0];
    for (Value v : ArrayRef(sums).drop_front())
      all = add(all, v);
    accumulate(sum(all));
  }
  for (int64_t at = whole; at < length; at += width) {
    unsigned n = std::min<int64_t>(width, length - at);
    accumulate(sum(f(index(at), n)));
  }
  return total;
}
void TileEmitter::when(Value condition, llvm::function_ref<void()> then) {
  auto branch = scf::IfOp::create(b, condition, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(&branch.getThenRegion().front());
  then();
}

} // namespace quern
