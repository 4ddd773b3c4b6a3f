//===- Matrices.h - Coded matrices and activations for kernel tests -*- C++ -*-===//
//
// Random and extreme data for any format, packed for kernels and decoded for the reference.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_TEST_UNIT_LINEAR_MATRICES_H
#define QUERN_TEST_UNIT_LINEAR_MATRICES_H

#include "KernelJit.h"
#include "quern/Format/Components.h"
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

namespace quern::test {

enum class Fill {
  Random,
  LowestCodes,
  HighestCodes,
  ZeroScales,
  TinyScales, ///< denormal where the type of the scale has denormals
  Denormals,  ///< float codes of the smallest magnitude
  NotFinite,  ///< infinities and NaN in some rows, where codes or levels have them
};
inline constexpr Fill allFills[] = {Fill::Random,     Fill::LowestCodes, Fill::HighestCodes,
                                    Fill::ZeroScales, Fill::TinyScales,  Fill::Denormals,
                                    Fill::NotFinite};

/// Bytes at a 64-byte boundary, with a guard page's worth of slack that no kernel may rely on.
struct Buffer {
  explicit Buffer(size_t size)
      : size(size),
        data(static_cast<uint8_t *>(std::aligned_alloc(64, (size + 127) / 64 * 64)), std::free) {}
  size_t size;
  std::unique_ptr<uint8_t, void (*)(void *)> data;
  uint8_t *get() const { return data.get(); }
};

struct CodedMatrix {
  format::PackedLayout layout;
  format::Components components;
  std::vector<float> values; ///< n x k, decoded
  Buffer packed;
};

/// Fills a matrix of `spec`; the same seed gives the same data.
llvm::Expected<CodedMatrix> makeMatrix(const format::Spec &spec, int64_t n, int64_t k, Fill fill,
                                       uint64_t seed);

/// tokens x k activations, some groups of which are all at their largest or zero. If `extreme`,
/// some are denormal, and of eight tokens or more one holds an infinity and one a NaN.
std::vector<float> makeActivations(int64_t tokens, int64_t k, uint64_t seed, bool extreme = false);

/// Runs `kernel` for each of `tokenCounts` over two partitions of the panels and compares with the
/// reference; token 0 must come out the same whatever came with it. Returns the first difference.
std::string checkKernel(const Kernel &kernel, const conversion::LinearDesc &desc,
                        const CodedMatrix &matrix, llvm::ArrayRef<int64_t> tokenCounts,
                        uint64_t seed, bool extreme = false);

/// makeMatrix, compileKernel for `target` and checkKernel. With allFills, activations are extreme
/// as well and Random comes twice.
std::string checkFormat(const format::Spec &spec, int64_t n, int64_t k,
                        conversion::Activation activation, llvm::ArrayRef<int64_t> tokenCounts,
                        llvm::ArrayRef<Fill> fills = {Fill::Random}, bool addends = false,
                        llvm::StringRef target = "native", Effort effort = Effort::Full,
                        int64_t largestCode = 127);

} // namespace quern::test

#endif // QUERN_TEST_UNIT_LINEAR_MATRICES_H
