//===- Rotation.h - What the rotating passes share --------------*- C++ -*-===//
//
// Q = D H: random signs, then blocks of a Hadamard matrix. Private to the folder.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_MIGRATE_ROTATION_H
#define QUERN_LIB_QUANTIZE_MIGRATE_ROTATION_H

#include "quern/Quantize/Migrate/ScaleSites.h"
#include "quern/Quantize/Migrate/WeightStore.h"

namespace quern::migrate {

/// The largest block, at most `most`, that divides `width` and of which a Hadamard matrix is known.
int64_t blockFor(int64_t width, int64_t most);

/// An orthogonal matrix over `width` channels.
struct Rotation {
  int64_t block = 1;
  std::vector<double> signs;      ///< of the channels before H
  std::vector<double> conference; ///< of H's factor (Reference/Hadamard.h), if it has one

  static Rotation get(int64_t width, int64_t block, uint64_t seed);
  int64_t width() const { return int64_t(signs.size()); }
  /// x <- x Q, in f64.
  void apply(llvm::MutableArrayRef<double> x) const;
};

/// W <- W diag(gain) Q: what a product reads that takes x Q in place of x. `gain` may be empty.
llvm::Error rotateColumns(WeightStore &store, WeightOp weight, const Rotation &rotation,
                          llvm::ArrayRef<double> gain);
/// W <- Qᵀ W (of a vector, b Q): what a product reads that is to give y Q.
llvm::Error rotateRows(WeightStore &store, WeightOp weight, const Rotation &rotation);

} // namespace quern::migrate

#endif // QUERN_LIB_QUANTIZE_MIGRATE_ROTATION_H
