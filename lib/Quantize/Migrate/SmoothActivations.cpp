//===- SmoothActivations.cpp - SmoothQuant --------------------------------===//
//
// See Passes.td.
//
//===----------------------------------------------------------------------===//
#include "ScalingPass.h"
#include "quern/Quantize/Migrate/Passes.h"
#include <cmath>

namespace quern {
#define GEN_PASS_DEF_SMOOTHACTIVATIONSPASS
#include "quern/Quantize/Migrate/Passes.h.inc"
} // namespace quern

using namespace quern;
using namespace quern::migrate;

namespace {
struct SmoothActivations : ScalingPass<quern::impl::SmoothActivationsPassBase<SmoothActivations>> {
  using Base::Base;

  llvm::Error configure(ScalingOptions &options) override {
    if (!(strength >= 0 && strength <= 1))
      return llvm::createStringError("strength must lie in [0, 1]");
    if (always)
      options.rounding = nullptr;
    return llvm::Error::success();
  }

  llvm::Expected<std::vector<double>> scalesOf(const SiteData &at, const Rounding &) override {
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
  }
};
} // namespace
