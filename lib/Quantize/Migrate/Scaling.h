//===- Scaling.h - What the scaling passes share ----------------*- C++ -*-===//
//
// A pass brings a rule: scales for one site. Everything else is here. Private to the folder.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_MIGRATE_SCALING_H
#define QUERN_LIB_QUANTIZE_MIGRATE_SCALING_H

#include "quern/Quantize/Migrate/ScaleSites.h"
#include "quern/Quantize/Migrate/WeightStore.h"
#include "quern/Quantize/Statistics.h"

namespace quern::migrate {

/// What is known of an input of products, by channel.
struct SiteData {
  const ScaleSite &site;
  const quantize::InputStatistics &input;
  WeightStore &store;
};

/// Gives a positive scale for each of site.scales; empty to leave the site as it is.
using ScaleRule = llvm::function_ref<llvm::Expected<std::vector<double>>(const SiteData &)>;

struct Rounding;
struct ScalingOptions {
  llvm::StringRef statistics, data;
  std::vector<std::string> only; ///< norm, gate, attention, op; empty: all but op
  /// If given, sites whose products would round worse with the rule's scales are left.
  const Rounding *rounding = nullptr;
  bool weightsOnly = false; ///< the rule needs no statistics; without them sites are not checked
};
struct ScalingCounts {
  uint64_t scaled = 0, refused = 0, left = 0;
};

/// Reads the statistics, asks the rule at every legal site and rewrites the weights; remarks at the
/// others.
llvm::Error scaleChannels(mlir::ModuleOp module, const ScalingOptions &options, ScaleRule rule,
                          ScalingCounts &counts);

/// Rows of a product's matrix (elements of a vector) from the first that `stored` has on, for a
/// stack those of every matrix.
struct RowRange {
  WeightOp base;
  int64_t begin = 0, columns = 1, rows = 0; ///< rows: of a matrix of the base
};
RowRange rowRangeOf(mlir::Value stored, mlir::SymbolTable &symbols);

/// Reads the values of a weight, lets `change` work on them, and keeps the result.
llvm::Error edit(WeightStore &store, WeightOp weight,
                 llvm::function_ref<void(std::vector<float> &)> change);

/// The largest |w| of each column, over all matrices that read the site.
llvm::Expected<std::vector<float>> columnMaxima(const SiteData &at);

/// The largest value of each free scale's channels.
std::vector<double> largestOf(const ScaleSite &site, llvm::ArrayRef<float> byChannel);

} // namespace quern::migrate

#endif // QUERN_LIB_QUANTIZE_MIGRATE_SCALING_H
