//===- SearchScales.cpp - AWQ's scale search ------------------------------===//
//
// See Passes.td.
//
//===----------------------------------------------------------------------===//
#include "RoundingError.h"
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
struct SearchScales : quern::impl::SearchScalesPassBase<SearchScales> {
  using Base::Base;

  void runOnOperation() override {
    ScalingCounts counts;
    Error error = search(counts);
    scaled = counts.scaled;
    refused = counts.refused;
    left = counts.left;
    if (error) {
      getOperation()->emitError(llvm::toString(std::move(error)));
      signalPassFailure();
    }
  }

  Error search(ScalingCounts &counts) {
    Expected<Rounding> rounding = Rounding::parse(format, activations, rows);
    if (!rounding)
      return rounding.takeError();
    if (steps < 1 || steps > 1000)
      return llvm::createStringError("steps must lie in [1, 1000]");
    std::vector<std::string> names(sites.begin(), sites.end());
    return scaleChannels(
        getOperation(), {statistics, data, names},
        [&](const SiteData &at) { return best(at, *rounding); }, counts);
  }

  Expected<std::vector<double>> best(const SiteData &at, const Rounding &rounding);
};
} // namespace

Expected<std::vector<double>> SearchScales::best(const SiteData &at, const Rounding &rounding) {
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
