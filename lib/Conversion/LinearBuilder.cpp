//===- LinearBuilder.cpp - Vector code for 16 rows at a target's width ----===//
//
// Thin wrappers over vector, arith and scf, and the few places where the instruction sets
// differ: byte shuffles, register tables and the integer dot product.
//
//===----------------------------------------------------------------------===//
#include "LinearBuilder.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/xxhash.h"

using namespace mlir;
using namespace quern::conversion::detail;
using quern::target::IntDot;

static bool isFloatVector(Value v) { return isa<FloatType>(getElementTypeOrSelf(v.getType())); }

Value VectorCode::index(int64_t value) { return arith::ConstantIndexOp::create(b, loc, value); }
Value VectorCode::add(Value a, Value c) { return b.createOrFold<arith::AddIOp>(loc, a, c); }
Value VectorCode::add(Value a, int64_t c) { return c == 0 ? a : add(a, index(c)); }
Value VectorCode::mul(Value a, int64_t c) {
  return c == 1 ? a : b.createOrFold<arith::MulIOp>(loc, a, index(c));
}
Value VectorCode::div(Value a, int64_t c) {
  return c == 1 ? a : b.createOrFold<arith::DivUIOp>(loc, a, index(c));
}
Value VectorCode::rem(Value a, int64_t c) {
  return c == 1 ? index(0) : b.createOrFold<arith::RemUIOp>(loc, a, index(c));
}
Value VectorCode::min(Value a, Value c) { return b.createOrFold<arith::MinUIOp>(loc, a, c); }

Value VectorCode::splat(VectorType type, int64_t value) {
  auto element = cast<IntegerType>(type.getElementType());
  APInt bits(element.getWidth(), uint64_t(value), /*isSigned=*/false, /*implicitTrunc=*/true);
  return arith::ConstantOp::create(b, loc, DenseElementsAttr::get(type, bits));
}
Value VectorCode::splat(VectorType type, double value) {
  return arith::ConstantOp::create(b, loc, DenseElementsAttr::get(type, float(value)));
}
Value VectorCode::constantBytes(ArrayRef<int8_t> values) {
  return arith::ConstantOp::create(
      b, loc, DenseElementsAttr::get(vec(values.size(), b.getI8Type()), values));
}

Value VectorCode::constantTable(DenseElementsAttr values) {
  auto tensor = cast<RankedTensorType>(values.getType());
  auto type = MemRefType::get(tensor.getShape(), tensor.getElementType());
  ArrayRef<char> raw = values.getRawData();
  std::string name =
      "quern_table_" + llvm::utohexstr(llvm::xxh3_64bits(ArrayRef<uint8_t>(
                           reinterpret_cast<const uint8_t *>(raw.data()), raw.size())));
  if (!module.lookupSymbol(name)) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(module.getBody());
    memref::GlobalOp::create(b, loc, name, b.getStringAttr("private"), type, values,
                             /*constant=*/true, b.getI64IntegerAttr(64));
  }
  return memref::GetGlobalOp::create(b, loc, type, name);
}

/// Loads go through vectors of the memref's element type, then change type.
Value VectorCode::load(Value memref, Value offset, int64_t constant, VectorType type) {
  Type element = cast<MemRefType>(memref.getType()).getElementType();
  int64_t bits = type.getNumElements() * type.getElementTypeBitWidth();
  VectorType stored = vec(bits / element.getIntOrFloatBitWidth(), element);
  Value raw = vector::LoadOp::create(b, loc, stored, memref, ValueRange{add(offset, constant)});
  return as(raw, type);
}
Value VectorCode::loadScalar(Value memref, Value offset, int64_t constant, Type type) {
  if (type == cast<MemRefType>(memref.getType()).getElementType())
    return memref::LoadOp::create(b, loc, memref, ValueRange{add(offset, constant)});
  return vector::ExtractOp::create(b, loc, load(memref, offset, constant, vec(1, type)), 0);
}
void VectorCode::store(Value vector, Value memref, Value offset, int64_t constant) {
  Type element = cast<MemRefType>(memref.getType()).getElementType();
  auto type = cast<VectorType>(vector.getType());
  int64_t bits = type.getNumElements() * type.getElementTypeBitWidth();
  Value raw = as(vector, vec(bits / element.getIntOrFloatBitWidth(), element));
  vector::StoreOp::create(b, loc, raw, memref, ValueRange{add(offset, constant)});
}
Value VectorCode::broadcastQuad(Value memref, Value offset, int64_t constant) {
  return as(broadcast(ints(), loadScalar(memref, offset, constant, b.getI32Type())), bytes());
}
Value VectorCode::broadcast(VectorType type, Value scalar) {
  return vector::BroadcastOp::create(b, loc, type, scalar);
}
void VectorCode::fence() {
  LLVM::InlineAsmOp::create(b, loc, TypeRange(), ValueRange(), "", "~{memory}",
                            /*has_side_effects=*/true, /*is_align_stack=*/false,
                            LLVM::TailCallKind::None, LLVM::AsmDialectAttr(), ArrayAttr());
}
void VectorCode::prefetch(Value memref, Value offset, int64_t constant, unsigned cache) {
  memref::PrefetchOp::create(b, loc, memref, ValueRange{add(offset, constant)}, /*isWrite=*/false,
                             /*localityHint=*/cache, /*isDataCache=*/true);
}
Value VectorCode::scratch(int64_t elements, Type element) {
  auto type = MemRefType::get({elements}, element);
  return memref::AllocaOp::create(b, loc, type, b.getI64IntegerAttr(64));
}

Value VectorCode::plus(Value a, Value c) {
  if (isFloatVector(a))
    return arith::AddFOp::create(b, loc, a, c);
  return arith::AddIOp::create(b, loc, a, c);
}
Value VectorCode::minus(Value a, Value c) {
  if (isFloatVector(a))
    return arith::SubFOp::create(b, loc, a, c);
  return arith::SubIOp::create(b, loc, a, c);
}
Value VectorCode::times(Value a, Value c) {
  if (isFloatVector(a))
    return arith::MulFOp::create(b, loc, a, c);
  return arith::MulIOp::create(b, loc, a, c);
}
Value VectorCode::bitAnd(Value a, Value c) { return arith::AndIOp::create(b, loc, a, c); }
Value VectorCode::bitAnd(Value a, int64_t mask) {
  return bitAnd(a, splat(cast<VectorType>(a.getType()), mask));
}
Value VectorCode::bitOr(Value a, Value c) { return arith::OrIOp::create(b, loc, a, c); }
Value VectorCode::bitXor(Value a, int64_t mask) {
  return arith::XOrIOp::create(b, loc, a, splat(cast<VectorType>(a.getType()), mask));
}
Value VectorCode::shiftLeft(Value a, int64_t by) {
  return by == 0 ? a : arith::ShLIOp::create(b, loc, a, splat(cast<VectorType>(a.getType()), by));
}
Value VectorCode::shiftRight(Value a, int64_t by) {
  return by == 0 ? a : arith::ShRUIOp::create(b, loc, a, splat(cast<VectorType>(a.getType()), by));
}
Value VectorCode::shiftRightSigned(Value a, int64_t by) {
  return arith::ShRSIOp::create(b, loc, a, splat(cast<VectorType>(a.getType()), by));
}
Value VectorCode::shiftRight(Value a, Value byIndex) {
  auto type = cast<VectorType>(a.getType());
  Value by = arith::IndexCastOp::create(b, loc, type.getElementType(), byIndex);
  return arith::ShRUIOp::create(b, loc, a, broadcast(type, by));
}
Value VectorCode::fma(Value a, Value c, Value addend) {
  return LLVM::FMAOp::create(b, loc, a, c, addend);
}
Value VectorCode::as(Value v, VectorType type) {
  return v.getType() == type ? v : vector::BitCastOp::create(b, loc, type, v);
}
Value VectorCode::toFloat(Value ints) { return arith::SIToFPOp::create(b, loc, floats(), ints); }
Value VectorCode::extendUnsigned(Value v, VectorType type) {
  return arith::ExtUIOp::create(b, loc, type, v);
}
Value VectorCode::extendSigned(Value v, VectorType type) {
  return arith::ExtSIOp::create(b, loc, type, v);
}
Value VectorCode::intrinsic(StringRef name, Type result, ValueRange operands) {
  return LLVM::CallIntrinsicOp::create(b, loc, result, b.getStringAttr(name), operands)
      .getResult(0);
}

Value VectorCode::roundToBF16(Value values) {
  auto floats = cast<VectorType>(values.getType());
  auto ints = vec(floats.getNumElements(), b.getI32Type());
  Value bits = as(values, ints);
  Value odd = bitAnd(shiftRight(bits, 16), 1);
  Value up = plus(bits, plus(odd, splat(ints, int64_t(0x7fff))));
  Value isNaN = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::UNO, values, values);
  Value quiet = bitOr(bits, splat(ints, int64_t(0x400000)));
  Value chosen = arith::SelectOp::create(b, loc, isNaN, quiet, up);
  return as(bitAnd(chosen, 0xffff0000), floats);
}

Value VectorCode::shiftBytes(Value v, int64_t right) {
  if (right == 0)
    return v;
  auto type = cast<VectorType>(v.getType());
  // No instruction set shifts bytes; 16-bit lanes do as well, given the mask that follows.
  Value wide = as(v, vec(type.getNumElements() / 2, b.getI16Type()));
  return as(right > 0 ? shiftRight(wide, right) : shiftLeft(wide, -right), type);
}

Value VectorCode::lookUpBytes(ArrayRef<int8_t> table, Value indices) {
  VectorType type = bytes();
  Value result;
  for (size_t first = 0; first < table.size(); first += 16) {
    // A register shuffle looks up within each 128-bit lane: repeat the entries.
    SmallVector<int8_t> entries(type.getNumElements());
    for (size_t i = 0; i < entries.size(); ++i)
      entries[i] = first + i % 16 < table.size() ? table[first + i % 16] : 0;
    Value low = table.size() > 16 ? bitAnd(indices, 15) : indices;
    Value found;
    if (target.isAArch64())
      found = intrinsic("llvm.aarch64.neon.tbl1.v16i8", type, {constantBytes(entries), low});
    else
      found = intrinsic(width == 16 ? "llvm.x86.avx512.pshuf.b.512" : "llvm.x86.avx2.pshuf.b", type,
                        {constantBytes(entries), low});
    if (!result) {
      result = found;
      continue;
    }
    Value above = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ugt, indices,
                                        splat(type, int64_t(first) - 1));
    result = arith::SelectOp::create(b, loc, above, found, result);
  }
  return result;
}

Value VectorCode::lookUpFloats(ArrayRef<float> table, Value indices) {
  // Whole registers of the table, chosen by the index's high bits.
  int64_t perRegister = width, count = table.size();
  bool registers = !target.isAArch64() && count <= 4 * perRegister;
  auto constant = [&](int64_t first) {
    SmallVector<float> entries(perRegister);
    for (int64_t i = 0; i < perRegister; ++i)
      entries[i] = first + i < int64_t(table.size()) ? table[first + i] : 0;
    return arith::ConstantOp::create(b, loc, DenseElementsAttr::get(floats(), ArrayRef(entries)));
  };
  if (registers) {
    auto permute = [&](Value entries) {
      if (width == 16)
        return intrinsic("llvm.x86.avx512.permvar.sf.512", floats(), {entries, indices});
      return intrinsic("llvm.x86.avx2.permps", floats(), {entries, indices});
    };
    Value result = permute(constant(0));
    for (int64_t first = perRegister; first < count; first += perRegister) {
      Value above =
          arith::CmpIOp::create(b, loc, arith::CmpIPredicate::uge, indices, splat(ints(), first));
      result = arith::SelectOp::create(b, loc, above, permute(constant(first)), result);
    }
    return result;
  }
  if (target.isAArch64() && table.size() <= 16) {
    // Four byte tables of 16 entries make the four bytes of each float.
    Value result;
    for (int byte = 0; byte < 4; ++byte) {
      SmallVector<int8_t> entries(16);
      for (size_t i = 0; i < table.size(); ++i)
        entries[i] = int8_t(llvm::bit_cast<uint32_t>(table[i]) >> (8 * byte));
      Value found = intrinsic("llvm.aarch64.neon.tbl1.v16i8", bytes(),
                              {constantBytes(entries), as(indices, bytes())});
      // Bytes 1..3 of an index are zero, and look up entry 0: drop them.
      found = shiftLeft(bitAnd(as(found, ints()), 255), 8 * byte);
      result = result ? bitOr(result, found) : found;
    }
    return as(result, floats());
  }
  return {};
}

SmallVector<Value> VectorCode::loop(Value lower, Value upper, int64_t step, ValueRange init,
                                    Body body) {
  auto loop = scf::ForOp::create(b, loc, lower, upper, index(step), init,
                                 [&](OpBuilder &inner, Location, Value iv, ValueRange carried) {
                                   OpBuilder::InsertionGuard guard(b);
                                   b.restoreInsertionPoint(inner.saveInsertionPoint());
                                   SmallVector<Value> next = body(iv, carried);
                                   scf::YieldOp::create(b, loc, next);
                                   inner.restoreInsertionPoint(b.saveInsertionPoint());
                                 });
  return SmallVector<Value>(loop.getResults().begin(), loop.getResults().end());
}
SmallVector<Value> VectorCode::tightLoop(int64_t upper, int64_t step, ValueRange init, Body body) {
  SmallVector<Value> results = loop(index(0), index(upper), step, init, body);
  auto unroll =
      LLVM::LoopUnrollAttr::get(b.getContext(), b.getBoolAttr(true), {}, {}, {}, {}, {}, {});
  auto annotation = LLVM::LoopAnnotationAttr::get(b.getContext(), {}, {}, {}, unroll, {}, {}, {},
                                                  {}, {}, {}, {}, {}, {}, {}, {});
  results[0].getDefiningOp()->setAttr("llvm.loop_annotation", annotation);
  return results;
}
void VectorCode::loop(Value lower, Value upper, int64_t step,
                      llvm::function_ref<void(Value)> body) {
  loop(lower, upper, step, {}, [&](Value iv, ValueRange) {
    body(iv);
    return SmallVector<Value>();
  });
}
void VectorCode::ifElse(Value condition, llvm::function_ref<void()> then,
                        llvm::function_ref<void()> otherwise) {
  auto op = scf::IfOp::create(b, loc, TypeRange(), condition, /*withElseRegion=*/bool(otherwise));
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(op.thenBlock());
  then();
  if (otherwise) {
    b.setInsertionPointToStart(op.elseBlock());
    otherwise();
  }
}
Value VectorCode::equal(Value a, Value c) {
  return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, a, c);
}

void DotSum::flush(VectorCode &v) {
  if (!sum16)
    return;
  Value pairs =
      v.intrinsic("llvm.x86.avx2.pmadd.wd", v.ints(), {sum16, v.splat(v.shorts(), int64_t(1))});
  sum32[0] = sum32[0] ? v.plus(sum32[0], pairs) : pairs;
  sum16 = {};
  pending = 0;
}

void DotSum::add(VectorCode &v, DotOperand operand, Value weight, Value x) {
  switch (v.target.intDot) {
  case IntDot::Maddubs: {
    Value unsignedOperand = weight, signedOperand = x;
    int largest = operand.largest;
    if (operand.isSigned) {
      // w x = |w| (x sign(w)): both factors exact, |w| <= 128 read as unsigned.
      unsignedOperand = LLVM::AbsOp::create(v.b, v.loc, v.bytes(), weight, false);
      signedOperand = v.intrinsic("llvm.x86.avx2.psign.b", v.bytes(), {x, weight});
      largest = 128;
    }
    // A lane holds two products: 2 x largest x 127 a call must stay within 16 bits.
    int limit = 32767 / (2 * 127 * std::max(largest, 1));
    Value products =
        v.intrinsic("llvm.x86.avx2.pmadd.ub.sw", v.shorts(), {unsignedOperand, signedOperand});
    sum16 = sum16 ? v.plus(sum16, products) : products;
    if (++pending >= limit)
      flush(v);
    return;
  }
  case IntDot::Vnni256:
  case IntDot::Vnni512:
  case IntDot::ArmDot: {
    StringRef name = v.target.intDot == IntDot::ArmDot    ? "llvm.aarch64.neon.sdot.v4i32.v16i8"
                     : v.target.intDot == IntDot::Vnni512 ? "llvm.x86.avx512.vpdpbusd.512"
                                                          : "llvm.x86.avx512.vpdpbusd.256";
    // Two chains hide the instruction's latency when few tokens run at once.
    Value &sum = sum32[oneChain ? 0 : calls++ % 2];
    if (!sum)
      sum = v.splat(v.ints(), int64_t(0));
    sum = v.intrinsic(name, v.ints(), {sum, weight, x});
    return;
  }
  }
}

void DotSum::addWords(VectorCode &v, Value weight, Value x) {
  StringRef name = v.width == 16 ? "llvm.x86.avx512.pmaddw.d.512" : "llvm.x86.avx2.pmadd.wd";
  Value products = v.intrinsic(name, v.ints(), {weight, x}); // with the add, vpdpwssd
  Value &sum = sum32[oneChain ? 0 : calls++ % 2];
  sum = sum ? v.plus(sum, products) : products;
}

int64_t DotSum::addsBeforeWidening(VectorCode &v, DotOperand operand) {
  if (v.target.intDot != IntDot::Maddubs)
    return std::numeric_limits<int64_t>::max();
  int largest = operand.isSigned ? 128 : std::max(operand.largest, 1);
  return 32767 / (2 * 127 * largest);
}

Value DotSum::take(VectorCode &v) {
  flush(v);
  Value result = sum32[1] ? v.plus(sum32[0], sum32[1]) : sum32[0];
  *this = DotSum();
  return result;
}
