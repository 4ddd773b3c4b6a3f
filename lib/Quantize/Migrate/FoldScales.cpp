//===- FoldScales.cpp - Scale Folding -------------------------------------===//
//
// See Passes.td.
//
//===----------------------------------------------------------------------===//
#include "RoundingError.h"
#include "quern/Quantize/Migrate/Passes.h"
#include <cmath>

namespace quern {
#define GEN_PASS_DEF_FOLDSCALESPASS
#include "quern/Quantize/Migrate/Passes.h.inc"
} // namespace quern

using namespace quern;
using namespace quern::migrate;

namespace {
struct FoldScales : quern::impl::FoldScalesPassBase<FoldScales> {
  using Base::Base;

  void runOnOperation() override {
    auto rule = [&](const SiteData &at) -> llvm::Expected<std::vector<double>> {
      std::vector<double> scales = largestOf(at.site, at.input.absMax);
      double mean = 0;
      for (double a : scales)
        mean += a / double(scales.size());
      for (double &s : scales)
        s = s > 0 ? std::clamp(std::pow(s / mean, exponent), 1 / limit, double(limit)) : 1;
      return scales;
    };
    ScalingCounts counts;
    llvm::Error error = scale(rule, counts);
    scaled = counts.scaled;
    refused = counts.refused;
    left = counts.left;
    if (error) {
      getOperation()->emitError(llvm::toString(std::move(error)));
      signalPassFailure();
    }
  }

  llvm::Error scale(ScaleRule rule, ScalingCounts &counts) {
    if (!(limit >= 1))
      return llvm::createStringError("limit must be 1 or more");
    llvm::Expected<Rounding> rounding = Rounding::parse(format, activations, rows);
    if (!rounding)
      return rounding.takeError();
    std::vector<std::string> names(sites.begin(), sites.end());
    return scaleChannels(getOperation(), {statistics, data, names, always ? nullptr : &*rounding},
                         rule, counts);
  }
};
} // namespace
