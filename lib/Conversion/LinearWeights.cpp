//===- LinearWeights.cpp - Reading packed weights in vector code ----------===//
//
// Loads and unpacks codes, 16 rows at a time.
//
//===----------------------------------------------------------------------===//
#include "LinearWeights.h"
#include "mlir/IR/BuiltinOps.h"
#include "quern/Format/Number.h"
#include <cmath>
#include <numeric>
#include <set>

using namespace mlir;
using namespace quern;
using namespace quern::conversion::detail;
using format::CodeStorage;
using format::FloatKind;
using format::Level;
using format::PackedLevel;
using quern::target::IntDot;

SmallVector<Segment> conversion::detail::segments(const format::PackedLayout &layout,
                                                  int64_t columns, int64_t activationGroup) {
  std::set<int64_t> borders = {0, columns};
  auto cut = [&](int64_t group) {
    for (int64_t at = group; group > 0 && at < columns; at += group)
      borders.insert(at);
  };
  cut(activationGroup);
  for (const PackedLevel &level : layout.levels)
    // Groups that neither make up steps nor consist of them end anywhere on this grid.
    cut(std::gcd(level.groupColumns, layout.step));
  SmallVector<Segment> result;
  for (auto it = borders.begin(); std::next(it) != borders.end(); ++it)
    result.push_back({*it, *std::next(it)});
  return result;
}

//===--- Positions --------------------------------------------------------===//

WeightReader::WeightReader(VectorCode &code, const format::PackedLayout &layout, Value weights)
    : meaning(CodeMeaning::of(layout)), v(code), layout(layout), weights(weights) {
  if (!meaning.isInteger())
    return;
  // The operand each instruction set wants: vpdpbusd takes any u8, maddubs a u8 small enough
  // not to saturate, else (by its sign) an s8, sdot an s8.
  IntDot dot = v.target.intDot;
  bool takesAnyUnsigned = dot == IntDot::Vnni256 || dot == IntDot::Vnni512;
  if (meaning.kind == CodeMeaning::Kind::Grid) {
    dotOperand = takesAnyUnsigned ? DotOperand{false, 255} : DotOperand{true, 128};
    bias = takesAnyUnsigned ? 128 : 0;
    return;
  }
  int low = 0, high = int(meaning.values.size()) - 1;
  if (meaning.kind == CodeMeaning::Kind::Lookup) {
    low = *llvm::min_element(meaning.integers);
    high = *llvm::max_element(meaning.integers);
  }
  bias = meaning.kind == CodeMeaning::Kind::Affine ? meaning.bias : 0;
  if (dot == IntDot::ArmDot && meaning.kind == CodeMeaning::Kind::Lookup) {
    dotOperand = {true, 128};
    operandTable = meaning.integers;
  } else if (takesAnyUnsigned || high - low <= 127) {
    dotOperand = {false, high - low};
    bias -= low;
    for (int8_t value : meaning.integers)
      operandTable.push_back(int8_t(value - low));
  } else {
    dotOperand = {true, 128};
    operandTable = meaning.integers;
    if (meaning.kind == CodeMeaning::Kind::Affine)
      bias -= 128;
  }
}

StepPosition WeightReader::position(Value panel, Value step, bool tail) {
  forget();
  int64_t perChunk = layout.chunk / layout.step;
  StepPosition at;
  at.header = v.add(v.mul(panel, layout.panelStride), layout.panelStart);
  Value chunk = v.div(step, perChunk);
  at.stepInChunk = v.rem(step, perChunk);
  at.chunk = v.add(v.add(at.header, layout.headerBytes), v.mul(chunk, layout.chunkBytes));
  at.codes = v.add(v.add(at.chunk, layout.levelBytes), v.mul(at.stepInChunk, layout.stepBytes));
  at.column = v.add(v.mul(step, layout.step), layout.columnStart);
  static_cast<StepExtent &>(at) = extent(tail);
  return at;
}

StepExtent WeightReader::extent(bool tail) const {
  if (tail)
    return {layout.tailColumns(), layout.k % layout.step};
  return {layout.step, layout.step};
}

void WeightReader::prefetch(const StepPosition &at) {
  if (v.target.prefetchBytes == 0 || at.columns != layout.step)
    return;
  // Codes and levels lie one after the other.
  for (int64_t line = 0; line < bytesOfStep(); line += 64)
    v.prefetch(weights, at.codes, line + v.target.prefetchBytes);
}

//===--- Codes ------------------------------------------------------------===//
/// Base-3 digits: (3 b) >> 8 is 0, 1 or 2 as b passes 86 and 171, and three times b, without its
/// carry, leaves the next ones.
Value WeightReader::quadDigits(const StepPosition &at, int64_t quad, int64_t part) {
  int64_t perByte = format::PackedLayout::digitsPerByte, place = quad % perByte;
  int64_t offset = quad / perByte * 64;
  Value rest;
  for (int64_t i = 0; i <= place; ++i) {
    Value &known = loaded[{offset + i, part}];
    if (!known)
      known = i == 0 ? v.load(weights, at.codes, offset + part * v.width * 4, v.bytes())
                     : v.plus(v.plus(rest, rest), rest);
    rest = known;
  }
  auto reaches = [&](int64_t limit) -> Value {
    Value mask = arith::CmpIOp::create(v.b, v.loc, arith::CmpIPredicate::uge, rest,
                                       v.splat(v.bytes(), limit));
    return arith::ExtUIOp::create(v.b, v.loc, v.bytes(), mask);
  };
  return v.plus(reaches(86), reaches(171));
}

Value WeightReader::quadPatterns(const StepPosition &at, int64_t quad, int64_t part) {
  if (layout.storage == CodeStorage::Digits)
    return quadDigits(at, quad, part);
  SmallVector<format::BitPlane, 4> planes(layout.planes);
  if (at.columns != layout.step)
    layout.stepPlanes(at.columns, planes);
  Value result;
  for (const format::BitPlane &plane : planes) {
    int64_t perByte = 8 / plane.width, place = quad % perByte * plane.width;
    int64_t offset = plane.offset + quad / perByte * 64;
    Value &raw = loaded[{offset, part}];
    if (!raw)
      raw = v.load(weights, at.codes, offset + part * v.width * 4, v.bytes());
    Value bits = raw;
    if (plane.width < 8) {
      bits = v.shiftBytes(bits, place - int64_t(plane.shift));
      bits = v.bitAnd(bits, ((1 << plane.width) - 1) << plane.shift);
    }
    result = result ? v.bitOr(result, bits) : bits;
  }
  return result;
}

Value WeightReader::quadOperand(const StepPosition &at, int64_t quad, int64_t part) {
  if (meaning.kind == CodeMeaning::Kind::Grid) {
    Value bytes = tableQuad(at, quad, part);
    return dotOperand.isSigned ? bytes : v.bitXor(bytes, 0x80);
  }
  Value patterns = quadPatterns(at, quad, part);
  if (meaning.kind == CodeMeaning::Kind::Lookup)
    return v.lookUpBytes(operandTable, patterns);
  return dotOperand.isSigned ? v.bitXor(patterns, 0x80) : patterns;
}

Value WeightReader::columnValues(const StepPosition &at, int64_t column, int64_t part) {
  VectorType ints = v.ints();
  switch (layout.storage) {
  case CodeStorage::Words32:
    return decodeNumber(layout.spec.code.number, layout.codesAreBiased(),
                        v.load(weights, at.codes, (column * 16 + part * v.width) * 4, ints));
  case CodeStorage::Words16: {
    int64_t offset = (column * 16 + part * v.width) * 2;
    if (layout.spec.code.number.isFloat(FloatKind::F16)) {
      Value half = v.load(weights, at.codes, offset, v.vec(v.width, v.b.getF16Type()));
      return arith::ExtFOp::create(v.b, v.loc, v.floats(), half);
    }
    Value raw = v.load(weights, at.codes, offset, v.vec(v.width, v.b.getI16Type()));
    return decodeNumber(layout.spec.code.number, layout.codesAreBiased(),
                        v.extendUnsigned(raw, ints));
  }
  case CodeStorage::Pairs16: {
    int64_t offset = (column / 2 * 16 + part * v.width) * 4;
    Value &raw = loaded[{offset, part}];
    if (!raw)
      raw = v.load(weights, at.codes, offset, ints);
    return v.as(column % 2 ? v.bitAnd(raw, 0xffff0000) : v.shiftLeft(raw, 16), v.floats());
  }
  case CodeStorage::Digits:
  case CodeStorage::Planes: {
    // Keyed beside the raw vectors: negative offsets are unpacked quads.
    Value &quad = loaded[{-1 - column / 4, part}];
    if (!quad) {
      Value unpacked = v.as(quadPatterns(at, column / 4, part), ints);
      loaded[{-1 - column / 4, part}] = unpacked;
    }
    Value bits = v.shiftRight(loaded[{-1 - column / 4, part}], column % 4 * 8);
    bits = v.bitAnd(bits, 255);
    const format::Code &code = layout.spec.code;
    if (meaning.kind == CodeMeaning::Kind::Affine) {
      // All intermediate values are small multiples of 1/2 of the multiplier: exact.
      return v.fma(v.toFloat(bits), v.splat(v.floats(), double(meaning.multiplier)),
                   v.splat(v.floats(), -double(meaning.multiplier) * meaning.bias));
    }
    if (code.kind == format::Code::Kind::Number)
      return decodeNumber(code.number, layout.codesAreBiased(), bits);
    if (Value found = v.lookUpFloats(meaning.values, bits))
      return found;
    auto type = RankedTensorType::get({int64_t(meaning.values.size())}, v.b.getF32Type());
    return gather(v.constantTable(DenseElementsAttr::get(type, ArrayRef<float>(meaning.values))),
                  bits, v.floats());
  }
  case CodeStorage::Indices:
    return tableColumn(at, column, part);
  }
  return {};
}

//===--- Tables of several columns ----------------------------------------===//

/// Index `index` of the step, zero-extended to 32 bits.
Value WeightReader::tableIndex(const StepPosition &at, int64_t index, int64_t part) {
  SmallVector<format::BitPlane, 4> planes(layout.planes);
  if (at.columns != layout.step)
    layout.stepPlanes(at.columns, planes);
  Value &cached = loaded[{-1 - index, part}];
  if (cached)
    return cached;
  Value result;
  for (const format::BitPlane &plane : planes) {
    int64_t perByte = 8 / plane.width;
    Value bits = v.load(weights, at.codes, plane.offset + index / perByte * 16 + part * v.width,
                        v.vec(v.width, v.b.getI8Type()));
    bits = v.extendUnsigned(bits, v.ints());
    if (plane.width < 8)
      bits = v.bitAnd(v.shiftRight(bits, index % perByte * plane.width), (1 << plane.width) - 1);
    bits = v.shiftLeft(bits, plane.shift);
    result = result ? v.bitOr(result, bits) : bits;
  }
  return cached = result;
}

/// The entry number that gives value `within` of the index.
Value WeightReader::tableEntry(Value index, int64_t within) {
  const format::Table &table = layout.spec.code.table;
  Value entry = v.shiftRight(index, within / table.dim * table.indexBits);
  return v.bitAnd(entry, (int64_t(1) << table.indexBits) - 1);
}

/// The sign bits of the index, one a value, from bit 0; null if there are none.
Value WeightReader::signs(Value index) {
  const format::Table &table = layout.spec.code.table;
  if (table.signs == format::Table::Signs::None)
    return {};
  Value bits = v.bitAnd(v.shiftRight(index, table.parts * table.indexBits),
                        (int64_t(1) << table.signBits()) - 1);
  if (table.signs == format::Table::Signs::Full)
    return bits;
  Value parity = bits;
  for (int shift = 32; shift >>= 1;)
    if (shift < int(table.signBits()))
      parity = arith::XOrIOp::create(v.b, v.loc, parity, v.shiftRight(parity, shift));
  return v.bitOr(bits, v.shiftLeft(v.bitAnd(parity, 1), table.parts * table.dim - 1));
}

Value WeightReader::gather(Value table, Value index, VectorType type) {
  Value all = arith::ConstantOp::create(
      v.b, v.loc, DenseElementsAttr::get(v.vec(v.width, v.b.getI1Type()), true));
  Value none = arith::ConstantOp::create(v.b, v.loc, v.b.getZeroAttr(type));
  return vector::GatherOp::create(v.b, v.loc, type, table, ValueRange{v.index(0)}, index, all,
                                  none);
}

/// Four columns of a Grid as signed bytes.
Value WeightReader::tableQuad(const StepPosition &at, int64_t quad, int64_t part) {
  const format::Table &table = layout.spec.code.table;
  int64_t perIndex = table.parts * table.dim, within = quad * 4 % perIndex;
  Value index = tableIndex(at, quad * 4 / perIndex, part);
  SmallVector<int32_t> quads;
  for (size_t i = 0; i < meaning.integers.size(); i += 4) {
    uint32_t packed = 0;
    for (int j = 0; j < 4; ++j)
      packed |= uint32_t(uint8_t(meaning.integers[i + j])) << (8 * j);
    quads.push_back(int32_t(packed));
  }
  auto type = RankedTensorType::get({int64_t(quads.size())}, v.b.getI32Type());
  Value global = v.constantTable(DenseElementsAttr::get(type, ArrayRef<int32_t>(quads)));
  int64_t quadsPerEntry = table.dim / 4;
  Value at4 = v.times(tableEntry(index, within), v.splat(v.ints(), quadsPerEntry));
  at4 = v.plus(at4, v.splat(v.ints(), within % table.dim / 4));
  Value bytes = v.as(gather(global, at4, v.ints()), v.bytes());
  Value sign = signs(index);
  if (!sign)
    return bytes;
  // Spread four bits over four bytes, make masks of them, negate where set.
  Value four = v.bitAnd(v.shiftRight(sign, within), 15);
  Value spread = v.bitAnd(v.times(four, v.splat(v.ints(), int64_t(0x00204081))), 0x01010101);
  Value mask = v.as(v.times(spread, v.splat(v.ints(), int64_t(255))), v.bytes());
  return v.minus(arith::XOrIOp::create(v.b, v.loc, bytes, mask), mask);
}

Value WeightReader::tableColumn(const StepPosition &at, int64_t column, int64_t part) {
  const format::Table &table = layout.spec.code.table;
  if (meaning.kind == CodeMeaning::Kind::Grid) {
    Value bits = v.as(tableQuad(at, column / 4, part), v.ints());
    bits = arith::ShRSIOp::create(v.b, v.loc, v.shiftLeft(bits, 24 - column % 4 * 8),
                                  v.splat(v.ints(), int64_t(24)));
    return v.times(v.toFloat(bits), v.splat(v.floats(), double(meaning.multiplier)));
  }
  int64_t perIndex = table.parts * table.dim, within = column % perIndex;
  Value index = tableIndex(at, column / perIndex, part);
  int64_t entries = (int64_t(1) << table.indexBits) * table.dim;
  Value entry = v.times(tableEntry(index, within), v.splat(v.ints(), int64_t(table.dim)));
  entry = v.plus(entry, v.splat(v.ints(), within % table.dim));
  auto learned = [&](int64_t count, Type element) -> Value {
    return memref::ViewOp::create(v.b, v.loc, MemRefType::get({count}, element), weights,
                                  v.index(layout.tableStart), ValueRange());
  };
  Value value;
  if (table.isLearned() && layout.tableEntryBytes() == 2) {
    // Gathers are of words: two entries, of which one is wanted.
    Value word = gather(learned(entries / 2, v.b.getI32Type()), v.shiftRight(entry, 1), v.ints());
    Value place = v.shiftLeft(v.bitAnd(entry, 1), 4);
    Value bits = v.bitAnd(arith::ShRUIOp::create(v.b, v.loc, word, place), 0xffff);
    value = decodeNumber(table.entryNumber, false, bits);
  } else if (table.isLearned()) {
    value = gather(learned(entries, v.b.getF32Type()), entry, v.floats());
  } else {
    auto type = RankedTensorType::get({entries}, v.b.getF32Type());
    value = gather(v.constantTable(DenseElementsAttr::get(type, table.values())), entry, v.floats());
  }
  Value sign = signs(index);
  if (!sign)
    return value;
  Value flip = v.shiftLeft(v.bitAnd(v.shiftRight(sign, within), 1), 31);
  return v.as(arith::XOrIOp::create(v.b, v.loc, v.as(value, v.ints()), flip), v.floats());
}
