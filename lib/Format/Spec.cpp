//===- Spec.cpp - Helpers of the format algebra's value types -------------===//
//
// Constructors and derived quantities; the spelling is in Syntax.cpp, the rules in
// Validate.cpp.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Spec.h"
#include "quern/Format/Number.h"
#include "quern/Format/Tables.h"

using namespace quern::format;

Number Number::signedInt(unsigned bits) {
  return {Kind::Signed, static_cast<uint8_t>(bits), FloatKind::F32};
}

Number Number::unsignedInt(unsigned bits) {
  return {Kind::Unsigned, static_cast<uint8_t>(bits), FloatKind::F32};
}

Number Number::floating(FloatKind kind) {
  return {Kind::Float, static_cast<uint8_t>(bitWidth(kind)), kind};
}

llvm::ArrayRef<float> Table::values() const {
  if (name.empty())
    return entries;
  const Table *known = knownTable(name);
  return known ? llvm::ArrayRef<float>(known->entries) : llvm::ArrayRef<float>();
}

unsigned Table::signBits() const {
  switch (signs) {
  case Signs::None:
    return 0;
  case Signs::Full:
    return parts * dim;
  case Signs::Parity:
    return parts * dim - 1;
  }
  return 0;
}

unsigned Code::bitsPerIndex() const {
  switch (kind) {
  case Kind::Number:
  case Kind::Pow2:
  case Kind::Power:
    return number.bits;
  case Kind::Sign:
    return 1;
  case Kind::Ternary:
    return 2;
  case Kind::Table:
    return table.parts * table.indexBits + table.signBits();
  }
  return 0;
}

unsigned Code::valuesPerIndex() const { return kind == Kind::Table ? table.parts * table.dim : 1; }

uint64_t Code::codeBytes(uint64_t indices) const {
  if (kind == Kind::Ternary && base3)
    return indices / 5 + (indices % 5 != 0);
  // Split so that the product cannot overflow before the division.
  return indices / 8 * bitsPerIndex() + (indices % 8 * bitsPerIndex() + 7) / 8;
}

Spec Spec::plain(quern::format::Number number) {
  Spec spec;
  spec.code.number = number;
  return spec;
}

bool Spec::isPlain() const {
  return kind == Kind::Base && code.kind == Code::Kind::Number && scale.empty() && offset.empty() &&
         zero.empty();
}
