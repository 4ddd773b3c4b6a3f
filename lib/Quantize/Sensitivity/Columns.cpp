//===- Columns.cpp - Column losses under error feedback (BAQ) -------------===//
//
// The error of a row is the sum over columns of variance x (target - code)^2, target being the
// weight and what earlier columns left to it, variance what these do not explain of the input.
//
//===----------------------------------------------------------------------===//
#include "Providers.h"
#include "llvm/ADT/STLExtras.h"
#include <cmath>

using namespace quern::quantize;
using llvm::ArrayRef;
using llvm::Expected;

ColumnSolution quern::quantize::roundColumns(ArrayRef<float> values, int64_t rows,
                                             const Hessian &hessian, ArrayRef<unsigned> levels) {
  int64_t n = hessian.columns;
  ColumnSolution out;
  out.decoded.resize(values.size());
  out.losses.assign(size_t(n), 0.0);
  std::vector<float> carried(static_cast<size_t>(n));
  for (int64_t r = 0; r < rows; ++r) {
    ArrayRef<float> row = values.slice(size_t(r * n), size_t(n));
    auto [low, high] = std::minmax_element(row.begin(), row.end());
    double least = *low, range = double(*high) - double(*low);
    std::fill(carried.begin(), carried.end(), 0.0f);
    for (int64_t i = 0; i < n; ++i) {
      size_t k = size_t(hessian.order[size_t(i)]);
      double target = double(row[k]) + double(carried[size_t(i)]);
      unsigned count = levels[k];
      double step = count > 1 ? range / (count - 1) : 0, value = least + range / 2;
      if (step > 0)
        value = least + step * std::clamp(std::round((target - least) / step), 0.0, count - 1.0);
      out.decoded[size_t(r * n) + k] = float(value);
      out.losses[k] += double(hessian.variance[k]) * (target - value) * (target - value) / 2;
      float d = row[k] - float(value);
      for (int64_t j = i + 1; j < n; ++j)
        carried[size_t(j)] += d * hessian.feedback[size_t(i * n + j)];
    }
  }
  for (double loss : out.losses)
    out.error += 2 * loss;
  return out;
}

std::vector<unsigned> quern::quantize::equalizeColumns(ArrayRef<double> losses, unsigned levels,
                                                       double meanBits) {
  auto at = [&](double target, double &bits) {
    std::vector<unsigned> out;
    bits = 0;
    for (double loss : losses) {
      double steps = std::round((levels - 1) * std::sqrt(loss / target));
      out.push_back(unsigned(std::clamp(steps, 0.0, 65535.0)) + 1);
      bits += std::log2(out.back()) / double(losses.size());
    }
    return out;
  };
  // A larger target takes fewer bits; the last one within the budget is kept.
  double low = -600, high = 600, bits = 0;
  for (int step = 0; step < 100; ++step) {
    double middle = (low + high) / 2;
    at(std::exp(middle), bits);
    (bits > meanBits ? low : high) = middle;
  }
  return at(std::exp(high), bits);
}

Losses quern::quantize::columnLosses(const Subject &subject) {
  Values values = subject.values();
  if (!values)
    return values.takeError();
  double bits = std::clamp(std::round(subject.choices[subject.typical].bits), 1.0, 8.0);
  std::vector<unsigned> levels(size_t(subject.columns), 1u << unsigned(bits));
  double sum = 0;
  int64_t rows = subject.rows / int64_t(subject.parts.size());
  for (auto [i, part] : llvm::enumerate(subject.parts)) {
    Expected<Hessian> hessian = subject.hessian(part);
    if (!hessian)
      return hessian.takeError();
    auto own = ArrayRef(*values).slice(i * size_t(rows * subject.columns),
                                       size_t(rows * subject.columns));
    for (double loss : roundColumns(own, rows, *hessian, levels).losses)
      sum += part.weight * 2 * loss;
  }
  std::vector<double> out;
  for (const Subject::Choice &choice : subject.choices)
    out.push_back(sum * std::pow(4.0, bits - choice.bits));
  return out;
}
