//===- FoldScales.cpp - Scale Folding -------------------------------------===//
//
// See Passes.td.
//
//===----------------------------------------------------------------------===//
#include "ScalingPass.h"
#include "quern/Quantize/Migrate/Passes.h"
#include <cmath>

namespace quern {
#define GEN_PASS_DEF_FOLDSCALESPASS
#include "quern/Quantize/Migrate/Passes.h.inc"
} // namespace quern

using namespace quern;
using namespace quern::migrate;

namespace {
struct FoldScales : ScalingPass<quern::impl::FoldScalesPassBase<FoldScales>> {
  using Base::Base;

  llvm::Error configure(ScalingOptions &options) override {
    if (!(limit >= 1))
      return llvm::createStringError("limit must be 1 or more");
    if (always)
      options.rounding = nullptr;
    return llvm::Error::success();
  }

  llvm::Expected<std::vector<double>> scalesOf(const SiteData &at, const Rounding &) override {
    std::vector<double> scales = largestOf(at.site, at.input.absMax);
    double mean = 0;
    for (double a : scales)
      mean += a / double(scales.size());
    for (double &s : scales)
      s = s > 0 ? std::clamp(std::pow(s / mean, exponent), 1 / limit, double(limit)) : 1;
    return scales;
  }
};
} // namespace
