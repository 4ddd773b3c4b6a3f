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

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace quern::format {

/// The scalar floating-point encodings a component may hold.
enum class FloatKind : uint8_t {
  F32, F16, BF16,
  F8E4M3FN,  ///< 1-4-3, no infinity, 0x7F is NaN
  F8E5M2,    ///< 1-5-2, IEEE-like
  F8E8M0FNU, ///< a power of two, bias 127; 0xFF is NaN (OCP MX)
  F8E8M0,    ///< the same, 0xFF read as 2^128 (as GGUF does)
  F8UE4M3,   ///< unsigned 4-3, 0x7F is NaN
  F6E2M3FN, F6E3M2FN, F4E2M1FN,
};

/// A scalar as stored: `i4` (two's complement), `ui6`, `f16`, ...
struct Number {
  enum class Kind : uint8_t { Signed, Unsigned, Float };
  Kind kind = Kind::Float;
  uint8_t bits = 32; ///< 1..32 for integers, the width of `floatKind` otherwise
  FloatKind floatKind = FloatKind::F32;

  static Number signedInt(unsigned bits);
  static Number unsignedInt(unsigned bits);
  static Number floating(FloatKind kind);
  bool isFloat() const { return kind == Kind::Float; }
  bool operator==(const Number &) const = default;
};

/// A codebook: an index of `indexBits` bits stands for `dim` consecutive
/// values along K. `entries` has 2^indexBits x dim values (row-major), or is empty
/// when the table is data of the tensor (a learned codebook).
struct Table {
  unsigned dim = 1;
  unsigned indexBits = 4;
  std::string name; ///< for known tables (`nf4`, `iq4nl`); empty when spelled out
  std::vector<float> entries;
  bool operator==(const Table &) const = default;
};

/// What one code stands for.
struct Code {
  enum class Kind : uint8_t {
    Number,  ///< the number itself
    Sign,    ///< one bit: 0 is -1, 1 is +1
    Ternary, ///< two bits (or base-3 digits in a file layout): -1, 0, +1
    Pow2,    ///< sign and exponent: +-2^-e, with a zero
    Power,   ///< sign(c) |c|^exponent of a signed integer c
    Table,   ///< a codebook entry
  };
  Kind kind = Kind::Number;
  quern::format::Number number; ///< Number, Pow2 and Power: the stored integer or float
  float exponent = 1;           ///< Power
  quern::format::Table table;   ///< Table

  /// Bits stored per index (one index covers `valuesPerIndex` weights).
  unsigned bitsPerIndex() const;
  unsigned valuesPerIndex() const;
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

  // Sum: all terms cover the whole matrix. Split: term i covers the i-th column set;
  // the sets' sizes and the permutation are data.
  std::vector<Spec> terms;
  std::vector<std::string> termNames; ///< Split only: `outliers`, `rest`, ...

  bool operator==(const Spec &) const = default;
};

} // namespace quern::format

#endif // QUERN_FORMAT_SPEC_H
