//===- ScalingPass.h - Passes that scale channels ---------------*- C++ -*-===//
//
// A pass brings a rule, its options' checks and defaults. Private to the folder.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_MIGRATE_SCALINGPASS_H
#define QUERN_LIB_QUANTIZE_MIGRATE_SCALINGPASS_H

#include "RoundingError.h"
#include "quern/Quantize/Migrate/FalliblePass.h"

namespace quern::migrate {

template <typename Generated> struct ScalingPass : FalliblePass<Generated> {
  using Base = ScalingPass;
  using FalliblePass<Generated>::FalliblePass;

  /// Checks the options of the pass; what it changes in these is how it scales.
  virtual llvm::Error configure(ScalingOptions &options) = 0;
  /// The rule (see ScaleRule).
  virtual llvm::Expected<std::vector<double>> scalesOf(const SiteData &at,
                                                       const Rounding &rounding) = 0;

  llvm::Error run() final {
    llvm::Expected<Rounding> rounding =
        Rounding::parse(this->format, this->activations, this->rows);
    if (!rounding)
      return rounding.takeError();
    ScalingOptions options;
    options.statistics = this->statistics;
    options.data = this->data;
    options.only.assign(this->sites.begin(), this->sites.end());
    options.rounding = &*rounding;
    if (llvm::Error error = configure(options))
      return error;
    ScalingCounts counts;
    auto rule = [&](const SiteData &at) { return scalesOf(at, *rounding); };
    llvm::Error error = scaleChannels(this->getOperation(), options, rule, counts);
    this->scaled = counts.scaled;
    this->refused = counts.refused;
    this->left = counts.left;
    return error;
  }
};

} // namespace quern::migrate

#endif // QUERN_LIB_QUANTIZE_MIGRATE_SCALINGPASS_H
