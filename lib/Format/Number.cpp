//===- Number.cpp - Reading and writing single stored numbers -------------===//
//
// Integers and the names of types; Float.cpp has the floats.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Number.h"
#include "llvm/Support/ErrorHandling.h"
#include <cmath>

using namespace quern::format;

float quern::format::decodeNumber(const Number &number, uint64_t raw) {
  if (number.isFloat())
    return decodeFloat(number.floatKind, raw);
  unsigned unused = 64 - number.bits;
  if (number.kind == Number::Kind::Signed)
    return static_cast<float>(static_cast<int64_t>(raw << unused) >> unused);
  return static_cast<float>(raw << unused >> unused);
}

uint64_t quern::format::encodeNumber(const Number &number, float value) {
  if (number.isFloat())
    return encodeFloat(number.floatKind, value);
  if (std::isnan(value))
    return 0;
  bool isSigned = number.kind == Number::Kind::Signed;
  double low = isSigned ? -std::ldexp(1.0, number.bits - 1) : 0;
  double end = std::ldexp(1.0, isSigned ? number.bits - 1 : number.bits); // one past the largest
  double rounded = std::nearbyint(double(value));
  uint64_t mask = number.bits == 64 ? ~uint64_t(0) : (uint64_t(1) << number.bits) - 1;
  if (rounded <= low)
    return isSigned ? (uint64_t(1) << (number.bits - 1)) : 0;
  if (rounded >= end)
    return isSigned ? mask >> 1 : mask;
  return (isSigned ? static_cast<uint64_t>(static_cast<int64_t>(rounded))
                   : static_cast<uint64_t>(rounded)) &
         mask;
}

unsigned quern::format::bitWidth(FloatKind kind) {
  switch (kind) {
  case FloatKind::F64:
    return 64;
  case FloatKind::F32:
    return 32;
  case FloatKind::F16:
  case FloatKind::BF16:
    return 16;
  case FloatKind::F8E4M3FN:
  case FloatKind::F8E5M2:
  case FloatKind::F8E8M0FNU:
  case FloatKind::F8E8M0Half:
  case FloatKind::F8UE4M3:
    return 8;
  case FloatKind::F6E2M3FN:
  case FloatKind::F6E3M2FN:
    return 6;
  case FloatKind::F4E2M1FN:
    return 4;
  }
  llvm_unreachable("unknown float kind");
}

llvm::StringRef quern::format::name(FloatKind kind) {
  switch (kind) {
  case FloatKind::F64:
    return "f64";
  case FloatKind::F32:
    return "f32";
  case FloatKind::F16:
    return "f16";
  case FloatKind::BF16:
    return "bf16";
  case FloatKind::F8E4M3FN:
    return "f8E4M3FN";
  case FloatKind::F8E5M2:
    return "f8E5M2";
  case FloatKind::F8E8M0FNU:
    return "f8E8M0FNU";
  case FloatKind::F8E8M0Half:
    return "f8E8M0Half";
  case FloatKind::F8UE4M3:
    return "f8UE4M3";
  case FloatKind::F6E2M3FN:
    return "f6E2M3FN";
  case FloatKind::F6E3M2FN:
    return "f6E3M2FN";
  case FloatKind::F4E2M1FN:
    return "f4E2M1FN";
  }
  llvm_unreachable("unknown float kind");
}
