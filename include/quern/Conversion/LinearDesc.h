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
/// the rows themselves. The others are written by emitQuantizeActivations. BF16 has room for f32:
/// targets without bf16 tiles keep the rounded values as such, and read them as they are.
struct ActivationLayout {
  Activation kind;
  int64_t k;
  int64_t paddedK;      ///< k rounded up to 32; the excess is zero
  int64_t scalesOffset; ///< f32 [paddedK / 32], or one for Int8; codes lie at 0
  int64_t sums32Offset; ///< f32 sum of codes by 32 columns
  int64_t sums16Offset; ///< f32 by 16 columns
  int64_t sums8Offset;  ///< i16 by 8 columns
  int64_t bytes;        ///< per token, a multiple of 64
  static ActivationLayout get(Activation kind, int64_t k);
};

struct LinearDesc {
  format::Spec weight;
  int64_t n = 0, k = 0;
  Activation activation = Activation::Q8;
  bool bias = false;
  bool residual = false; ///< adds residual[t, n]; it may be `out` itself
  int64_t maxTokens = 1;
};

} // namespace quern::conversion

#endif // QUERN_CONVERSION_LINEARDESC_H
