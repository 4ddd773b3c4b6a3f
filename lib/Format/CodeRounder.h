//===- CodeRounder.h - Rounding values to codes -----------------*- C++ -*-===//
//
// For one kind of code: the range its scale is chosen from and the nearest code
// under a given scale. Shared by every encoder.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_FORMAT_CODEROUNDER_H
#define QUERN_LIB_FORMAT_CODEROUNDER_H

#include "quern/Format/Spec.h"

namespace quern::format {

/// A value equals (code - zero) x scale; `values` below are what is left after offsets.
class CodeRounder {
public:
  explicit CodeRounder(const Code &code);

  /// Values an index covers.
  unsigned width() const { return code.valuesPerIndex(); }
  bool isInteger() const { return code.kind == Code::Kind::Number && !code.number.isFloat(); }
  /// Smallest and largest value of a code.
  float low() const { return lowest; }
  float high() const { return highest; }

  /// The scale that makes the largest magnitude just representable. Integers of fewer than 8
  /// bits and asymmetric tables map the first largest magnitude to their largest code, with a
  /// negative scale if need be and `signedScale` allows it.
  float scaleFor(llvm::ArrayRef<float> values, bool signedScale) const;

  /// Nearest index for width() values; `inverse` is 1/scale or 0. Integers: half away from zero
  /// from 8 bits on, else half up, which is what GGUF's tools do. Tables: the first of equals.
  uint64_t round(const float *values, float scale, float inverse, float zero) const;

  /// What one index decodes to, under a scale and zero.
  void decode(uint64_t raw, float scale, float zero, float *out) const;

private:
  uint64_t roundInteger(float scaled) const;
  uint64_t roundEntry(const float *values, float scale, float zero) const;
  uint64_t roundVector(const float *values, float inverse, float zero) const;

  const Code &code;
  std::vector<float> entries; ///< of scalar codes by brute force, or of a table
  std::vector<float> norms;   ///< of a table's entries, squared
  float lowest = 0, highest = 0;
};

} // namespace quern::format

#endif // QUERN_LIB_FORMAT_CODEROUNDER_H
