//===- EqualizeRanges.cpp - Cross-layer equalization ----------------------===//
//
// See Passes.td. Nagel et al., Data-Free Quantization through Weight Equalization and Bias
// Correction (2019).
//
//===----------------------------------------------------------------------===//
#include "ScalingPass.h"
#include "quern/Quantize/Migrate/Passes.h"
#include <cmath>

namespace quern {
#define GEN_PASS_DEF_EQUALIZERANGESPASS
#include "quern/Quantize/Migrate/Passes.h.inc"
} // namespace quern

using namespace quern;
using namespace quern::migrate;
using llvm::Error;
using llvm::Expected;

namespace {
struct EqualizeRanges : ScalingPass<quern::impl::EqualizeRangesPassBase<EqualizeRanges>> {
  using Base::Base;

  Error configure(ScalingOptions &options) override {
    if (options.only.empty())
      options.only = {"gate", "attention"};
    if (always)
      options.rounding = nullptr;
    options.weightsOnly = true;
    return Error::success();
  }

  Expected<std::vector<double>> scalesOf(const SiteData &at, const Rounding &) override;
};
} // namespace

/// sqrt(largest of the row / largest of the column); 1 where either is zero.
Expected<std::vector<double>> EqualizeRanges::scalesOf(const SiteData &at, const Rounding &) {
  auto product = dyn_cast_or_null<WeightedOpInterface>(at.site.producer);
  if (!product) // a norm has no rows
    return std::vector<double>();
  RowRange range = rowRangeOf(product.getWeightOperand().get(), at.store.symbolTable());
  Expected<std::vector<float>> values = at.store.load(range.base);
  if (!values)
    return values.takeError();
  std::vector<float> rows(size_t(at.site.scales), 0.0f);
  int64_t matrix = range.rows * range.columns;
  for (int64_t i = 0; i < int64_t(values->size()); ++i) {
    int64_t row = i % matrix / range.columns - range.begin;
    if (row >= 0 && row < at.site.scales)
      rows[size_t(row)] = std::max(rows[size_t(row)], std::fabs((*values)[size_t(i)]));
  }
  Expected<std::vector<float>> columns = columnMaxima(at);
  if (!columns)
    return columns.takeError();
  std::vector<double> scales = largestOf(at.site, *columns);
  for (auto [scale, row] : llvm::zip(scales, rows))
    scale = scale > 0 && row > 0 ? std::sqrt(double(row) / scale) : 1;
  return scales;
}
