//===- Activations.h - How activations are rounded before a product -*- C++ -*-===//
//
// The one definition of the activation formats of a `linear`, which generated code
// must reproduce code for code. Standard library only, so that anything may include it.
//
// Quantization (q8: groups of 32 consecutive values along K; int8: one group, the whole
// row; a last partial group holds what is left):
//
//   m       = max over the group of |x|, and at least 2^-100
//   scale   = m / 127          (f32 division)
//   inverse = 127 / m          (f32 division)
//   code[i] = x[i] * inverse   (f32 product, rounded to the nearest integer, ties to even)
//
// The floor of 2^-100 keeps both divisions normal: a group of zeros gets zero codes and a
// tiny scale, without a branch. Codes of finite values lie in [-127, 127]: no clamp needed.
// The maximum is taken on the bit patterns with the sign cleared, as unsigned integers, which
// orders finite values as usual and puts infinity, then NaN, above them. So a group with a NaN or
// an infinity has a NaN or infinite scale and zero codes here; generated code may leave
// any codes there, as the product with the scale is not finite in either case.
//
// q4 and int4: the same with 7 in place of 127, and codes in [-7, 7].
//
// Under a column split, int8 and int4 round the columns of the last set alone, as a row of their
// own; the columns of the other sets stay f32.
//
// Outliers (a threshold on the op): values of at least that magnitude stay f32, and count as 0 among
// those that are rounded.
//
// Static int8: scale and zero are constants of the model; a row's only scale is that one.
//
//   inverse = 1 / scale                                   (f32 division)
//   code[i] = min(max(round(x[i] * inverse), -127 - zero), 127 - zero) + zero
//
// with the same rounding. Values beyond the range, infinities too, take its ends, and NaN the lower
// one. What the product reads is scale * code, so scale * zero more than x: a bias takes it back.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_REFERENCE_ACTIVATIONS_H
#define QUERN_REFERENCE_ACTIVATIONS_H

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

namespace quern::reference {

/// In what form a linear reads its activations. (`fast` is resolved before it gets here.)
enum class ActivationFormat : uint8_t { F32, BF16, Q8, Int8, Q4, Int4 };

/// The constants of static int8. zero lies in [-126, 126].
struct StaticScale {
  float scale = 1;
  int32_t zero = 0;
};

/// Values that share one scale under q8 and q4.
inline constexpr int64_t q8GroupSize = 32;

/// 2^-100: see above.
inline constexpr uint32_t smallestAbsMaxBits = 0x0D800000u;

/// max |x| of one group as defined above; NaN if any value is.
float groupAbsMax(std::span<const float> x);

/// The largest code of 8 bits, and of 4.
inline constexpr int largestCode8 = 127, largestCode4 = 7;

/// One group: writes its codes, returns its scale.
float quantizeGroup(std::span<const float> x, std::span<int8_t> codes,
                    int largestCode = largestCode8);

/// One row, quantized in groups of `groupSize`. `codes` has x.size() elements,
/// `scales` one per group, ceil(x.size() / groupSize).
void quantizeRow(std::span<const float> x, int64_t groupSize, std::span<int8_t> codes,
                 std::span<float> scales, int largestCode = largestCode8);

/// One row with a static scale.
void quantizeRow(std::span<const float> x, StaticScale constants, std::span<int8_t> codes);

/// The value `x` stands for after rounding to `format`, exactly (code x scale needs more bits
/// than f32 has): what a linear multiplies with.
/// What is not rounded: the first values of a row of int8 or int4; and of any integers, outliers.
struct Kept {
  int64_t columns = 0;
  float from = INFINITY; ///< NaN is no outlier
};
std::vector<double> roundActivations(std::span<const float> x, ActivationFormat format,
                                     Kept kept = {});

/// Static int8: scale * code.
std::vector<double> roundActivations(std::span<const float> x, StaticScale constants,
                                     Kept kept = {});

/// Round to nearest, ties to even, keeping NaN a NaN; overflow gives infinity.
float roundToBF16(float value);
float roundToF16(float value);

} // namespace quern::reference

#endif // QUERN_REFERENCE_ACTIVATIONS_H
