//===- SearchScales.cpp - AWQ's scale search ------------------------------===//
//
// See Passes.td. What is rounded to try a scale is a sample of evenly spaced rows.
//
//===----------------------------------------------------------------------===//
#include "Scaling.h"
#include "quern/Format/Encode.h"
#include "quern/Format/Known.h"
#include "quern/Quantize/Migrate/Passes.h"
#include <Eigen/Core>
#include <cmath>

namespace quern {
#define GEN_PASS_DEF_SEARCHSCALESPASS
#include "quern/Quantize/Migrate/Passes.h.inc"
} // namespace quern

using namespace quern;
using namespace quern::migrate;
using llvm::Error;
using llvm::Expected;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

namespace {
/// Some rows of one matrix.
struct Sample {
  std::vector<float> values;
  int64_t rows = 0;
  double weight = 0; ///< rows of the matrix that each stands for
};

struct SearchScales : quern::impl::SearchScalesPassBase<SearchScales> {
  using Base::Base;

  void runOnOperation() override {
    ScalingCounts counts;
    Error error = search(counts);
    scaled = counts.scaled;
    refused = counts.refused;
    if (error) {
      getOperation()->emitError(llvm::toString(std::move(error)));
      signalPassFailure();
    }
  }

  Error search(ScalingCounts &counts) {
    Expected<format::Spec> parsed = format::parse(format);
    if (!parsed)
      return parsed.takeError();
    if (steps < 1 || steps > 1000 || rows < 1)
      return llvm::createStringError("steps must lie in [1, 1000], and rows be 1 or more");
    std::vector<std::string> names(sites.begin(), sites.end());
    return scaleChannels(
        getOperation(), {statistics, data, names},
        [&](const SiteData &at) { return best(at, *parsed); }, counts);
  }

  Expected<std::vector<double>> best(const SiteData &at, const format::Spec &spec);
};
} // namespace

static Expected<std::vector<Sample>> sampleRows(const SiteData &at, int64_t most) {
  std::vector<Sample> out;
  int64_t columns = at.site.channels();
  for (WeightOp matrix : at.site.matrices) {
    Expected<std::vector<float>> values = at.store.load(matrix);
    if (!values)
      return values.takeError();
    int64_t all = int64_t(values->size()) / columns;
    Sample sample;
    sample.rows = std::min(all, most);
    sample.weight = double(all) / double(sample.rows);
    for (int64_t i = 0; i < sample.rows; ++i) {
      auto begin = values->begin() + i * all / sample.rows * columns;
      sample.values.insert(sample.values.end(), begin, begin + columns);
    }
    out.push_back(std::move(sample));
  }
  return out;
}

/// tr(D H Dᵀ) for the columns multiplied by `s` before they are rounded and divided afterwards.
static Expected<double> errorWith(const std::vector<Sample> &samples, const Eigen::VectorXf &s,
                                  const Matrix &h, const format::Spec &spec) {
  double total = 0;
  for (const Sample &sample : samples) {
    Eigen::Map<const Matrix> w(sample.values.data(), sample.rows, s.size());
    Matrix scaled = w * s.asDiagonal();
    llvm::MutableArrayRef<float> flat(scaled.data(), size_t(scaled.size()));
    format::Components components;
    if (Error e = format::encode(spec, flat, sample.rows, s.size(), components))
      return std::move(e);
    if (Error e = format::decode(spec, components, flat))
      return std::move(e);
    Matrix d = scaled * s.cwiseInverse().asDiagonal() - w;
    total += sample.weight * double((d * h).cwiseProduct(d).sum());
  }
  return total;
}

Expected<std::vector<double>> SearchScales::best(const SiteData &at, const format::Spec &spec) {
  Expected<std::vector<Sample>> samples = sampleRows(at, int64_t(rows));
  if (!samples)
    return samples.takeError();
  int64_t columns = at.site.channels();
  Matrix h(columns, columns);
  for (int64_t i = 0; i < columns; ++i)
    for (int64_t j = 0; j < columns; ++j)
      h(i, j) = float(at.input.at(i, j) / double(at.input.rows));
  std::vector<float> mean(static_cast<size_t>(columns));
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
    Eigen::VectorXf s(columns);
    for (int64_t k = 0; k < columns; ++k)
      s[k] = float(scales[size_t(at.site.scaleOf(k))]);
    Expected<double> error = errorWith(*samples, s, h, spec);
    if (!error)
      return error.takeError();
    if (*error < least) {
      least = *error;
      // An exponent of 0 scales nothing.
      chosen = step ? std::move(scales) : std::vector<double>();
    }
  }
  return chosen;
}
