//===- Providers.cpp - All providers by name ------------------------------===//
//
// And the two shortest. A new one is a function and a line here; docs/Quantizing.md shows one.
//
//===----------------------------------------------------------------------===//
#include "Providers.h"
#include "llvm/ADT/STLExtras.h"
#include <cmath>
#include <numeric>

using namespace quern::quantize;
using llvm::createStringError;
using llvm::Expected;

std::vector<Subject::Part> Subject::partsOf(llvm::ArrayRef<const InputStatistics *> inputs,
                                            double chosen) {
  double seen = 0;
  for (const InputStatistics *input : inputs)
    seen += input ? double(input->rows) : 0;
  std::vector<Part> out;
  for (const InputStatistics *input : inputs) {
    double share = seen == 0 ? 1 / double(inputs.size()) : input ? double(input->rows) / seen : 0;
    out.push_back({input, share * chosen});
  }
  return out;
}

Expected<Hessian> Subject::hessian(const Part &part) const {
  if (!part.input || !part.input->rows)
    return Hessian::identity(columns);
  return Hessian::create(part.input->meanHessian(), columns, damping);
}

Expected<std::vector<double>> Subject::squaredErrors(size_t choice) const {
  Values own = values(), other = choices[choice].values();
  if (!own || !other) {
    llvm::Error e = llvm::joinErrors(own.takeError(), other.takeError());
    return std::move(e);
  }
  size_t count = parts.size(), size = own->size() / count;
  std::vector<double> sums(count);
  for (auto [i, pair] : llvm::enumerate(llvm::zip_equal(*own, *other))) {
    double d = double(std::get<0>(pair)) - double(std::get<1>(pair));
    sums[i / size] += d * d;
  }
  return sums;
}

static Losses hessianLosses(const Subject &subject) {
  std::vector<double> out;
  for (const Subject::Choice &choice : subject.choices)
    out.push_back(std::max(0.0, choice.error));
  return out;
}

/// Both the divergence and tr(dW H dW^T) grow with the square of dW: one measurement serves all.
static Losses measuredLosses(const Subject &subject) {
  const Subject::Choice &typical = subject.choices[subject.typical];
  Values values = typical.values();
  if (!values)
    return values.takeError();
  Expected<double> divergence = subject.divergence(*values);
  if (!divergence)
    return divergence.takeError();
  std::vector<double> out;
  for (const Subject::Choice &choice : subject.choices)
    out.push_back(typical.error > 0 ? std::max(0.0, *divergence) * choice.error / typical.error
                                    : 0.0);
  return out;
}

static constexpr ProviderInfo table[] = {
    {"measured", "KL divergence that one candidate causes; the chosen ones are measured themselves",
     true, measuredLosses},
    {"hessian", "tr(dW H dW^T), the error of the product's results", false, hessianLosses},
    {"hutchinson", "Hutchinson's trace of the divergence's Hessian x |dW|^2 (HAWQ-V2)", true,
     hutchinsonLosses},
    {"trace", "tr(H) x |dW|^2: the same for the product's results alone", false, traceLosses},
    {"eigenvalue", "largest eigenvalue of H x |dW|^2 (HAWQ)", false, eigenvalueLosses},
    {"column", "losses of columns under error feedback, and their law (BAQ)", false, columnLosses},
};

llvm::ArrayRef<ProviderInfo> quern::quantize::providers() { return table; }

Expected<const ProviderInfo *> quern::quantize::parseProvider(llvm::StringRef name) {
  std::string known;
  for (const ProviderInfo &provider : table) {
    if (provider.name == name)
      return &provider;
    known += (known.empty() ? "" : ", ") + provider.name.str();
  }
  return createStringError("unknown provider '" + name + "'; known: " + known);
}

/// Ranks from 0 on; equal values share their mean.
static std::vector<double> ranksOf(llvm::ArrayRef<double> values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  llvm::sort(order,
             [&](size_t a, size_t b) { return std::pair(values[a], a) < std::pair(values[b], b); });
  std::vector<double> ranks(values.size());
  for (size_t i = 0; i < order.size();) {
    size_t end = i;
    while (end < order.size() && values[order[end]] == values[order[i]])
      ++end;
    for (size_t j = i; j < end; ++j)
      ranks[order[j]] = double(i + end - 1) / 2;
    i = end;
  }
  return ranks;
}

double quern::quantize::rankCorrelation(llvm::ArrayRef<double> a, llvm::ArrayRef<double> b) {
  std::vector<double> x = ranksOf(a), y = ranksOf(b);
  double mean = (double(x.size()) - 1) / 2, xx = 0, yy = 0, xy = 0;
  for (auto [u, v] : llvm::zip_equal(x, y)) {
    xx += (u - mean) * (u - mean);
    yy += (v - mean) * (v - mean);
    xy += (u - mean) * (v - mean);
  }
  return xx > 0 && yy > 0 ? xy / std::sqrt(xx * yy) : 0;
}
