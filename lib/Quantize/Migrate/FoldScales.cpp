//===- FoldScales.cpp - Scale Folding -------------------------------------===//
//
// See Passes.td.
//
//===----------------------------------------------------------------------===//
#include "Scaling.h"
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
    std::vector<std::string> names(sites.begin(), sites.end());
    ScalingCounts counts;
    llvm::Error error = limit >= 1
                            ? scaleChannels(getOperation(), {statistics, data, names}, rule, counts)
                            : llvm::createStringError("limit must be 1 or more");
    scaled = counts.scaled;
    refused = counts.refused;
    if (error) {
      getOperation()->emitError(llvm::toString(std::move(error)));
      signalPassFailure();
    }
  }
};
} // namespace
