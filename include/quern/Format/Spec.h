//===- Spec.h - How numbers are stored: the format algebra ------*- C++ -*-===//
//
// A format says how a logical real matrix W[N,K] is stored:
//
//   value  = (code - zero) x (product of scale levels) + sign x (product of offset levels)
//   format = code + levels | sum of formats | split of K into column sets
//
// Evaluation is in f32, outermost level first, then the code, without fused
// multiply-add, so that decoding is bit-exact everywhere. Parameters (codes,
// scales, learned tables) are data and never part of a Spec.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_FORMAT_SPEC_H
#define QUERN_FORMAT_SPEC_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <cstdint>
#include <string>
#include <vector>

namespace quern::format {

/// The scalar floating-point encodings a component may hold. docs/Formats.md lists their
/// ranges; Number.h reads and writes them.
enum class FloatKind : uint8_t {
  F32,
  F16,
  BF16,
  F8E4M3FN,   ///< 1-4-3, no infinity, 0x7F and 0xFF are NaN
  F8E5M2,     ///< 1-5-2, IEEE-like
  F8E8M0FNU,  ///< 2^(x-127); 0xFF is NaN (OCP MX)
  F8E8M0Half, ///< 2^(x-128), every x finite: what GGUF's MXFP4 reads, to go with doubled codes
  F8UE4M3,    ///< unsigned 4-3 as GGUF's NVFP4 reads it: top bit ignored, 0x7F is 0
  F6E2M3FN,
  F6E3M2FN,
  F4E2M1FN,
  F64, ///< decodes to the nearest f32
};

/// A scalar as stored: `i4` (two's complement), `ui6`, `f16`, ...
struct Number {
  enum class Kind : uint8_t { Signed, Unsigned, Float };
  Kind kind = Kind::Float;
  uint8_t bits = 32; ///< 1..32 or 64 for integers, the width of `floatKind` otherwise
  FloatKind floatKind = FloatKind::F32;

  static Number signedInt(unsigned bits);
  static Number unsignedInt(unsigned bits);
  static Number floating(FloatKind kind);
  bool isFloat() const { return kind == Kind::Float; }
  bool isFloat(FloatKind k) const { return kind == Kind::Float && floatKind == k; }
  bool operator==(const Number &) const = default;
};

/// A codebook: an index stands for `parts` x `dim` consecutive values along K.
///
/// Read from its low end, the index holds `parts` entry numbers of `indexBits` bits each,
/// then sign bits: value i is negated when sign bit i is set. With parity signs the last
/// value's sign is not stored: it makes the number of negated values even.
struct Table {
  enum class Signs : uint8_t {
    None,
    Full,  ///< one bit per value
    Parity ///< one bit per value but the last
  };
  unsigned dim = 1;
  unsigned indexBits = 4;
  unsigned parts = 1;
  Signs signs = Signs::None;
  /// Known tables (`nf4`, `iq4nl`, see Tables.h): `entries` is empty then, and every other
  /// field equals the known table's.
  std::string name;
  /// 2^indexBits x dim values, row-major. Empty for known tables, and for learned ones,
  /// whose entries are data of the tensor.
  std::vector<float> entries;
  /// How a learned table's entries are stored; f32 otherwise.
  Number entryNumber;

  bool isLearned() const { return name.empty() && entries.empty(); }
  /// The entries of a known or spelled-out table; empty for a learned one.
  llvm::ArrayRef<float> values() const;
  unsigned signBits() const;
  bool operator==(const Table &) const = default;
};

/// What one code stands for.
struct Code {
  enum class Kind : uint8_t {
    Number,  ///< the number itself
    Sign,    ///< one bit: 0 is -1, 1 is +1
    Ternary, ///< code - 1: -1, 0, +1 (two bits can hold a fourth code; it reads as +2)
    Pow2,    ///< top bit: sign; the others: 0 is 0, e > 0 is 2^(1-e)
    Power,   ///< sign(c) |c|^exponent of a signed integer c
    Table,   ///< a codebook entry
  };
  Kind kind = Kind::Number;
  quern::format::Number number; ///< Number, Pow2 and Power: the stored integer or float
  float exponent = 1;           ///< Power
  bool base3 = false;           ///< Ternary: stored as five base-3 digits a byte, not two bits each
  quern::format::Table table;   ///< Table

  /// Bits per index once unpacked (one index covers `valuesPerIndex` weights). Storage takes
  /// the same, except base-3 digits: see `codeBytes`.
  unsigned bitsPerIndex() const;
  unsigned valuesPerIndex() const;
  /// Bytes that `indices` consecutive indices take in a stream that starts on a byte.
  uint64_t codeBytes(uint64_t indices) const;
  bool operator==(const Code &) const = default;
};

/// The extent a level's parameter covers. 0 means the whole dimension (`*`).
struct Tile {
  int64_t rows = 1;
  int64_t cols = 0;
  bool operator==(const Tile &) const = default;
};

/// One level of scales (or offsets, or zeros): a number per tile, itself read as
/// (stored + addend) x multiplier. The affine part is constant and format-wide
/// (GGUF's IQ types need it, e.g. (2s+1)/8); it is 0 and 1 for nearly all.
struct Level {
  Number number;
  Tile tile;
  float multiplier = 1;
  float addend = 0;
  bool operator==(const Level &) const = default;
};

/// A format. Value type; compare with ==, hash through print().
struct Spec {
  enum class Kind : uint8_t { Base, Sum, Split };
  Kind kind = Kind::Base;

  // Base
  Code code;
  std::vector<Level> scale;  ///< outermost first; empty means 1
  std::vector<Level> offset; ///< outermost first; empty means 0
  int offsetSign = +1;       ///< `plus` or `minus`
  std::vector<Level> zero;   ///< subtracted from the code; empty means 0

  // Sum: all terms cover the whole matrix. Split: term i covers the i-th column set; which
  // columns those are is data.
  std::vector<Spec> terms;
  std::vector<std::string> termNames; ///< Split only: `outliers`, `rest`, ...
  /// Split only: columns of each set but the last, multiples of 32; or empty: see splitColumns.
  std::vector<int64_t> termColumns;

  bool operator==(const Spec &) const = default;

  /// A bare number per element, without levels: f32, bf16, i8.
  static Spec plain(Number number);
  bool isPlain() const;
  bool isPlain(FloatKind k) const { return isPlain() && code.number.isFloat(k); }
};

/// The textual spelling, e.g. `ui4, scale f16[1x256] * ui6[1x32], minus f16[1x256] * ui6[1x32]`.
/// parse(print(s)) == s for every valid s.
std::string print(const Spec &spec);
std::string print(const Number &number);

/// Parses the spelling (also a known format's name, see Known.h) and validates the result.
/// Errors say what was expected and show the rest of the text.
llvm::Expected<Spec> parse(llvm::StringRef text);

/// Rejects every malformed Spec, with the rule it breaks.
llvm::Error validate(const Spec &spec);

} // namespace quern::format

#endif // QUERN_FORMAT_SPEC_H
