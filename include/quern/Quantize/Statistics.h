//===- Statistics.h - What enters each product ------------------*- C++ -*-===//
//
// Sums over the rows X[T, K] of activations that a calibration text sends into the products
// of a model, and the file that keeps them. Products that share an input share its sums.
//
// File, little-endian, no padding:
//
//   "QUERNST1"  u64 bytes of the whole file  u64 xxh3 of everything after this field
//   string model  string text  u64 tokens  u32 inputs
//   each input:  u32 weights, each a string    u64 K   u64 rows
//                f32 absMax[K]  f64 sum[K]  f64 sumAbs[K]  f64 sumFourth[K]
//                f32 hessian[K (K + 1) / 2]: row i of the lower triangle after row i - 1
//   string      u32 length, that many bytes
//
// All arrays are sums, not means, so that files of two texts add up.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_QUANTIZE_STATISTICS_H
#define QUERN_QUANTIZE_STATISTICS_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"
#include <string>
#include <vector>

namespace quern::quantize {

/// One input of products.
struct InputStatistics {
  std::vector<std::string> weights; ///< canonical names of the matrices that read it
  int64_t columns = 0;              ///< K
  uint64_t rows = 0;                ///< activations seen: tokens, times experts in a mixture
  std::vector<float> absMax;        ///< [K] largest |x|
  std::vector<double> sum, sumAbs, sumFourth; ///< [K] of x, |x|, x^4
  /// [K][K] sum of x x^T. Only the lower triangle (column <= row) is kept up to date; use `at`.
  std::vector<double> hessian;

  InputStatistics() = default;
  InputStatistics(std::vector<std::string> weights, int64_t columns);

  double at(int64_t i, int64_t j) const {
    return i >= j ? hessian[i * columns + j] : hessian[j * columns + i];
  }
  /// Mean of x_k^2.
  double meanSquare(int64_t k) const { return rows ? at(k, k) / double(rows) : 0; }

  /// Adds `count` rows of K values. Threads may share the work of one call: each of `threads`
  /// calls it with its own number `thread` and the same rows, and all must return before the
  /// next rows come. The sums do not depend on the number of threads.
  void add(const float *values, int64_t count, int thread = 0, int threads = 1);
};

struct Statistics {
  std::string model;   ///< name of the model, for people
  std::string text;    ///< what was read, for people
  uint64_t tokens = 0; ///< of the text
  std::vector<InputStatistics> inputs;

  /// The input of the matrix `weight`; null if it was not seen.
  const InputStatistics *find(llvm::StringRef weight) const;

  /// Adds what another text gave the same model. Fails, changing nothing, when the inputs differ.
  llvm::Error merge(const Statistics &other);

  /// Writes aside, then renames.
  llvm::Error write(llvm::StringRef path, bool force) const;
  /// Nothing in the file is trusted: lengths are checked before memory is taken, values must be
  /// finite, squares not negative.
  static llvm::Expected<Statistics> read(llvm::StringRef path);

  llvm::json::Object summary() const;
  void print(llvm::raw_ostream &os) const;
};

/// Whether the file begins as a file of statistics does.
bool isStatistics(llvm::StringRef path);

} // namespace quern::quantize

#endif // QUERN_QUANTIZE_STATISTICS_H
