//===- SmoothActivations.cpp - SmoothQuant --------------------------------===//
//
// See Passes.td.
//
//===----------------------------------------------------------------------===//
#include "RoundingError.h"
#include "quern/Quantize/Migrate/Passes.h"
#include <cmath>

namespace quern {
#define GEN_PASS_DEF_SMOOTHACTIVATIONSPASS
#include "quern/Quantize/Migrate/Passes.h.inc"
} // namespace quern

using namespace quern;
using namespace quern::migrate;

namespace {
struct SmoothActivations : quern::impl::SmoothActivationsPassBase<SmoothActivations> {
  using Base::Base;

  void runOnOperation() override {
    auto rule = [&](const SiteData &at) -> llvm::Expected<std::vector<double>> {
      llvm::Expected<std::vector<float>> columns = columnMaxima(at);
      if (!columns)
        return columns.takeError();
      std::vector<double> scales = largestOf(at.site, at.input.absMax);
      double logs = 0;
      for (auto [s, w] : llvm::zip(scales, largestOf(at.site, *columns))) {
        constexpr double least = 1e-5;
        s = std::pow(std::max(s, least), strength) / std::pow(std::max(w, least), 1 - strength);
        logs += std::log(s);
      }
      double mean = std::exp(logs / double(scales.size()));
      for (double &s : scales)
        s /= mean;
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
    if (!(strength >= 0 && strength <= 1))
      return llvm::createStringError("strength must lie in [0, 1]");
    llvm::Expected<Rounding> rounding = Rounding::parse(format, activations, rows);
    if (!rounding)
      return rounding.takeError();
    std::vector<std::string> names(sites.begin(), sites.end());
    return scaleChannels(getOperation(), {statistics, data, names, always ? nullptr : &*rounding},
                         rule, counts);
  }
};
} // namespace
