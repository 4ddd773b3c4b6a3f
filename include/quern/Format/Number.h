//===- Number.h - Reading and writing single stored numbers -----*- C++ -*-===//
//
// Decoding is exact; encoding rounds to nearest, ties to even. A stored number is
// its bit pattern in the low bits of a uint64_t (two's complement for signed).
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_FORMAT_NUMBER_H
#define QUERN_FORMAT_NUMBER_H

#include "quern/Format/Spec.h"

namespace quern::format {

/// The value of the low `number.bits` bits of `raw` (higher bits are ignored). Integers and
/// doubles that f32 cannot hold round to nearest even.
float decodeNumber(const Number &number, uint64_t raw);
float decodeFloat(FloatKind kind, uint64_t raw);

/// Nearest stored number, ties to even. Integers and floats without infinity saturate; f16,
/// bf16 and f8E5M2 overflow to infinity. Negative values give 0 in unsigned kinds. NaN gives
/// NaN where there is one, else 0.
uint64_t encodeNumber(const Number &number, float value);
uint64_t encodeFloat(FloatKind kind, float value);

/// Largest and smallest (finite) values.
float maxValue(const Number &number);
float minValue(const Number &number);

unsigned bitWidth(FloatKind kind);
llvm::StringRef name(FloatKind kind);

/// The f32 value of one part of a code: for Number, Sign, Ternary, Pow2 and Power codes, what
/// an index stands for. Table codes go through `decodeIndex`.
float decodeCode(const Code &code, uint64_t raw);

/// Expands one index into code.valuesPerIndex() values. `learned` holds a learned table's
/// entries (empty otherwise).
void decodeIndex(const Code &code, llvm::ArrayRef<float> learned, uint64_t raw, float *out);

/// The same for a table whose `entries` are at hand: known tables are looked up only once.
void decodeEntry(const Table &table, llvm::ArrayRef<float> entries, uint64_t raw, float *out);

} // namespace quern::format

#endif // QUERN_FORMAT_NUMBER_H
