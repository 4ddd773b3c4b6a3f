//===- Code.cpp - What codes stand for ------------------------------------===//
//
// The values of a code's index before levels.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Number.h"
#include "llvm/Support/ErrorHandling.h"
#include <bit>
#include <cmath>

using namespace quern::format;

float quern::format::decodeCode(const Code &code, uint64_t raw) {
  switch (code.kind) {
  case Code::Kind::Number:
    return decodeNumber(code.number, raw);
  case Code::Kind::Sign:
    return (raw & 1) ? 1 : -1;
  case Code::Kind::Ternary:
    return static_cast<float>(int(raw & 3) - 1);
  case Code::Kind::Pow2: {
    unsigned exponentBits = code.number.bits - 1;
    uint64_t exponent = raw & ((uint64_t(1) << exponentBits) - 1);
    if (exponent == 0)
      return 0;
    float magnitude = std::ldexp(1.0f, 1 - int(exponent));
    return (raw >> exponentBits) & 1 ? -magnitude : magnitude;
  }
  case Code::Kind::Power: {
    float c = decodeNumber(code.number, raw);
    return std::copysign(static_cast<float>(std::pow(std::fabs(double(c)), double(code.exponent))),
                         c);
  }
  case Code::Kind::Table:
    break;
  }
  llvm_unreachable("table codes stand for several values");
}

void quern::format::decodeIndex(const Code &code, llvm::ArrayRef<float> learned, uint64_t raw,
                                float *out) {
  if (code.kind != Code::Kind::Table) {
    *out = decodeCode(code, raw);
    return;
  }
  decodeEntry(code.table, code.table.isLearned() ? learned : code.table.values(), raw, out);
}

void quern::format::decodeEntry(const Table &table, llvm::ArrayRef<float> values, uint64_t raw,
                                float *out) {
  uint64_t entryMask = (uint64_t(1) << table.indexBits) - 1;
  unsigned count = table.parts * table.dim;
  for (unsigned part = 0; part < table.parts; ++part) {
    uint64_t entry = (raw >> (part * table.indexBits)) & entryMask;
    for (unsigned i = 0; i < table.dim; ++i)
      out[part * table.dim + i] = values[entry * table.dim + i];
  }
  if (table.signs == Table::Signs::None)
    return;
  uint64_t signs =
      (raw >> (table.parts * table.indexBits)) & ((uint64_t(1) << table.signBits()) - 1);
  if (table.signs == Table::Signs::Parity)
    signs |= uint64_t(std::popcount(signs) & 1) << (count - 1);
  for (unsigned i = 0; i < count; ++i)
    if ((signs >> i) & 1)
      out[i] = -out[i];
}
