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
  bool isVector() const { return width() > 1 || code.table.signs != Table::Signs::None; }
  bool isInteger() const { return code.kind == Code::Kind::Number && !code.number.isFloat(); }
  /// Smallest and largest value of a code.
  float low() const { return lowest; }
  float high() const { return highest; }

  /// The scale that makes the largest magnitude just representable. Integers of fewer than 8
  /// bits and asymmetric tables map the first largest magnitude to their largest code, with a
  /// negative scale if need be and `signedScale` allows it.
  float scaleFor(llvm::ArrayRef<float> values, bool signedScale) const;

  /// Nearest index for width() values; `inverse` is 1/scale or 0. Integers: half away from zero
  /// from 8 bits on (signed), else half up, as GGUF's tools do. Tables: the first of equals.
  /// `scratch` only saves allocations.
  uint64_t round(const float *values, float scale, float inverse, float zero,
                 std::vector<float> &scratch) const;

  /// Integers only: the codes of many values, as floats. `zeros` is per value, or empty.
  void roundIntegers(llvm::ArrayRef<float> values, float inverse, llvm::ArrayRef<float> zeros,
                     float *codes) const;

  /// How well a scale serves: codes are rounded under `scale`, then fitted.
  struct Fit {
    float scale;  ///< of least squared error for those codes
    double error; ///< squared, with that scale
  };
  Fit fit(llvm::ArrayRef<float> values, llvm::ArrayRef<float> zeros, float scale) const;

private:
  void nearestEntries(llvm::ArrayRef<float> values, float inverse, llvm::ArrayRef<float> zeros,
                      float *units) const;
  uint64_t roundEntry(const float *values, float scale, float zero) const;
  uint64_t roundVector(const float *values, float inverse, float zero,
                       std::vector<float> &scratch) const;

  const Code &code;
  std::vector<float> entries; ///< what each index stands for: of scalar codes and tables
  // Scalar entries in ascending order without repetition, and the first index of each.
  std::vector<float> sorted;
  std::vector<uint32_t> sortedIndex;
  // Vector tables: value i of entry e at [i x entries + e], and squared norms.
  std::vector<float> transposed, norms;
  float lowest = 0, highest = 0;
};

} // namespace quern::format

#endif // QUERN_LIB_FORMAT_CODEROUNDER_H
