//===- LinearDesc.h - What a linear kernel computes, and on what -*- C++ -*-===//
//
// The description of a kernel, the form and the layout of its activations; no MLIR.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_CONVERSION_LINEARDESC_H
#define QUERN_CONVERSION_LINEARDESC_H

#include "quern/Format/PackedLayout.h"
#include "quern/Target/TargetInfo.h"

namespace quern::conversion {

/// In what form a linear reads its activations (see Reference/Activations.h).
enum class Activation : uint8_t {
  F32,  ///< as they are
  BF16, ///< rounded to bf16
  Q8,   ///< int8 in groups of 32 with an f32 scale
  Int8, ///< int8 with one f32 scale per token
};

/// What `fast` activations are for a weight on a target: q8 where codes are integers of fewer than
/// 8 bits, because then a token alone, which most of a conversation is, needs no decoding of weights
/// (VNNI or sdot on the codes themselves, at the speed of memory); else bf16, which matrix units
/// multiply and which other targets keep widened (format::prefersInt8Activations). The same for all targets known today, so a
/// program that carries several computes the same on each (docs/Rationale.md).
Activation fastActivation(const target::TargetInfo &target, const format::PackedLayout &weight);

/// One token's activations as kernels read them. F32 has no buffer of its own: kernels read
/// the rows themselves. The others are written by emitQuantizeActivations.
///
/// BF16 twice: at 0 the rounded values, as bf16 on a target with tiles of it, elsewhere as f32, for
/// weights that are decoded to f32; and, for weights of integer codes, as int16 in groups of 32
/// with a scale that is a power of two, 2^(e - 14) if the largest value is in [2^e, 2^(e + 1)). A
/// value of at least 2^(e - 7) is kept exactly, smaller ones to 2^(e - 15). Each four columns lie as
/// 0, 2, 1, 3: one instruction takes even bytes of codes, another one the odd.
///
/// Int8 for a column split: the columns of all sets but the last, which are there because they are
/// large, come first, as they are, in f32 (`plain` of them, filled up to 64 bytes); then everything
/// below for the others alone.
struct ActivationLayout {
  Activation kind;
  int64_t plain;        ///< columns in front that are not rounded
  int64_t base;         ///< bytes that they take; the offsets below count from there
  int64_t k;            ///< columns that are
  int64_t paddedK;      ///< k rounded up to 32; the excess is zero
  int64_t codesOffset;  ///< int8; int16 for BF16
  int64_t scalesOffset; ///< f32 [paddedK / 32], or one for Int8
  int64_t sums32Offset; ///< f32 sum of codes by 32 columns
  int64_t sums16Offset; ///< f32 by 16 columns
  int64_t sums8Offset;  ///< i16 by 8 columns; f32 for BF16
  int64_t bytes;        ///< per token, all of it, a multiple of 64
  static ActivationLayout get(Activation kind, int64_t k, int64_t plain = 0);
  /// For products with weights of this format.
  static ActivationLayout get(Activation kind, int64_t k, const format::Spec &weight) {
    return get(kind, k, plainColumns(kind, k, weight));
  }
  static int64_t plainColumns(Activation kind, int64_t k, const format::Spec &weight);
  int64_t codeBytes() const { return kind == Activation::BF16 ? 2 : 1; }
};

struct LinearDesc {
  format::Spec weight;
  int64_t n = 0, k = 0;
  Activation activation = Activation::Q8;
  int64_t largestCode = 127; ///< of Q8 and Int8; what is quantized differs, not the product
  bool bias = false;
  bool residual = false; ///< adds residual[t, n]; it may be `out` itself
  int64_t maxTokens = 1;
};

} // namespace quern::conversion

#endif // QUERN_CONVERSION_LINEARDESC_H
