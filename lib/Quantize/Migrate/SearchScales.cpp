//===- SearchScales.cpp - AWQ's scale search ------------------------------===//
//
// See Passes.td.
//
//===----------------------------------------------------------------------===//
#include "ScalingPass.h"
#include "quern/Quantize/Migrate/Passes.h"
#include <cmath>

namespace quern {
#define GEN_PASS_DEF_SEARCHSCALESPASS
#include "quern/Quantize/Migrate/Passes.h.inc"
} // namespace quern

using namespace quern;
using namespace quern::migrate;
using llvm::Error;
using llvm::Expected;

namespace {
struct SearchScales : ScalingPass<quern::impl::SearchScalesPassBase<SearchScales>> {
  using Base::Base;

  Error configure(ScalingOptions &options) override {
    if (steps < 1 || steps > 1000)
      return llvm::createStringError("steps must lie in [1, 1000]");
    options.rounding = nullptr; // the best scales of all do not round worse
    return Error::success();
  }

  Expected<std::vector<double>> scalesOf(const SiteData &at, const Rounding &rounding) override;
};
} // namespace

Expected<std::vector<double>> SearchScales::scalesOf(const SiteData &at, const Rounding &rounding) {
  Expected<RoundingError> error = RoundingError::create(at, rounding);
  if (!error)
    return error.takeError();
  std::vector<float> mean(at.input.sumAbs.size());
  for (auto [m, sum] : llvm::zip(mean, at.input.sumAbs))
    m = float(sum / double(at.input.rows));
  std::vector<double> magnitudes = largestOf(at.site, mean), chosen;
  double least = INFINITY;
  for (unsigned step = 0; step < steps; ++step) {
    std::vector<double> scales(magnitudes.size());
    double most = 0, few = INFINITY;
    for (auto [s, magnitude] : llvm::zip(scales, magnitudes)) {
      s = std::max(std::pow(magnitude, double(step) / double(steps)), 1e-4);
      most = std::max(most, s);
      few = std::min(few, s);
    }
    for (double &s : scales)
      s /= std::sqrt(most * few);
    // An exponent of 0 scales nothing.
    Expected<double> found = error->with(step ? llvm::ArrayRef(scales) : llvm::ArrayRef<double>());
    if (!found)
      return found.takeError();
    if (*found < least) {
      least = *found;
      chosen = step ? std::move(scales) : std::vector<double>();
    }
  }
  return chosen;
}
