//===- RoundingError.cpp - What rounding costs behind scales --------------===//
//
// See RoundingError.h. What is rounded to try scales is a sample of evenly spaced rows.
//
//===----------------------------------------------------------------------===//
#include "RoundingError.h"
#include "quern/Format/Encode.h"
#include "quern/Format/Known.h"
#include <cmath>

using namespace quern;
using namespace quern::migrate;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

Expected<Rounding> Rounding::parse(llvm::StringRef format, llvm::StringRef activations,
                                   unsigned rows) {
  Rounding out;
  Expected<format::Spec> spec = format::parse(format);
  if (!spec)
    return spec.takeError();
  if (activations != "f32" && activations != "int8" && activations != "int4")
    return createStringError("unknown activations '" + activations + "'; known: f32, int8, int4");
  if (rows < 1)
    return createStringError("rows must be 1 or more");
  out.weights = *spec;
  out.largestCode = activations == "int8" ? 127 : activations == "int4" ? 7 : 0;
  out.rows = rows;
  return out;
}

Expected<RoundingError> RoundingError::create(const SiteData &at, const Rounding &rounding) {
  RoundingError out(at, rounding);
  int64_t columns = at.site.channels();
  for (WeightOp matrix : at.site.matrices) {
    Expected<std::vector<float>> values = at.store.load(matrix);
    if (!values)
      return values.takeError();
    int64_t all = int64_t(values->size()) / columns;
    Sample sample;
    sample.values.resize(std::min(all, rounding.rows), columns);
    sample.weight = double(all) / double(sample.values.rows());
    for (int64_t i = 0; i < sample.values.rows(); ++i)
      sample.values.row(i) = Eigen::Map<const Eigen::RowVectorXf>(
          values->data() + i * all / sample.values.rows() * columns, columns);
    out.samples.push_back(std::move(sample));
  }
  out.hessian.resize(columns, columns);
  for (int64_t i = 0; i < columns; ++i)
    for (int64_t j = 0; j < columns; ++j)
      out.hessian(i, j) = float(at.input.at(i, j) / double(at.input.rows));
  return out;
}

Expected<double> RoundingError::with(llvm::ArrayRef<double> scales) const {
  int64_t columns = hessian.cols();
  Eigen::VectorXf s = Eigen::VectorXf::Ones(columns);
  if (!scales.empty())
    for (int64_t k = 0; k < columns; ++k)
      s[k] = float(scales[size_t(site.scaleOf(k))]);
  double most = 0, fourth = 0;
  for (int64_t k = 0; k < columns; ++k) {
    most = std::max(most, double(input.absMax[size_t(k)]) / double(s[k]));
    fourth += input.sumFourth[size_t(k)] / double(input.rows) / std::pow(double(s[k]), 4);
  }
  double codes = rounding.largestCode;
  double noise = codes ? std::min(most * most, std::sqrt(fourth)) / (codes * codes * 12) : 0;
  double total = 0;
  for (const Sample &sample : samples) {
    Matrix scaled = sample.values * s.asDiagonal();
    total += sample.weight * noise * scaled.cast<double>().squaredNorm();
    llvm::MutableArrayRef<float> flat(scaled.data(), size_t(scaled.size()));
    format::Components components;
    if (Error e = format::encode(rounding.weights, flat, scaled.rows(), columns, components))
      return std::move(e);
    if (Error e = format::decode(rounding.weights, components, flat))
      return std::move(e);
    Matrix d = scaled * s.cwiseInverse().asDiagonal() - sample.values;
    total += sample.weight * double((d * hessian).cwiseProduct(d).sum());
  }
  return total;
}
