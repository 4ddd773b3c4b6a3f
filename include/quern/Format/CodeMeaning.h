//===- CodeMeaning.h - Codes as integers, where they are --------*- C++ -*-===//
//
// What kernels must know of a code: whether its values are small integers times a constant, so that
// products of integers give exact results.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_FORMAT_CODEMEANING_H
#define QUERN_FORMAT_CODEMEANING_H

#include "quern/Format/PackedLayout.h"

namespace quern::format {

/// What the stored patterns of a code stand for.
struct CodeMeaning {
  enum class Kind : uint8_t {
    Affine, ///< multiplier x (pattern - bias)
    Lookup, ///< multiplier x integers[pattern], each integer in [-128, 127]
    Grid,   ///< multiplier x integers of a table whose entries are whole quads
    Float,  ///< no exact 8-bit integers
  };
  Kind kind = Kind::Float;
  float multiplier = 1;
  float bias = 0; ///< a multiple of 1/2
  llvm::SmallVector<int8_t> integers;
  llvm::SmallVector<float> values; ///< by pattern, for codes in planes

  static CodeMeaning of(const PackedLayout &layout);
  bool isInteger() const { return kind != Kind::Float; }
};

/// Whether a product with int8 activations can be had from integer products: the codes are
/// integers, and groups are multiples of 8 columns (for which sums of activations are kept).
bool hasIntegerProducts(const PackedLayout &layout);

/// Whether `fast` activations are int8 in groups (q8) for this weight, or else bf16: q8 wherever
/// there are integer products, but for codes of 8 bits, whose own error q8's would more than
/// double (docs/Rationale.md).
bool prefersInt8Activations(const PackedLayout &layout);

} // namespace quern::format

#endif // QUERN_FORMAT_CODEMEANING_H
