//===- Statistics.cpp - Statistics of a whole model -----------------------===//
//
// Looking up, adding and describing; the file is File.cpp's.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Statistics.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/Format.h"
#include <cmath>

using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::StringRef;
namespace json = llvm::json;

const InputStatistics *Statistics::find(StringRef weight) const {
  for (const InputStatistics &input : inputs)
    if (llvm::is_contained(input.weights, weight))
      return &input;
  return nullptr;
}

Error Statistics::merge(const Statistics &other) {
  auto same = [](const InputStatistics &a, const InputStatistics &b) {
    return a.weights == b.weights && a.columns == b.columns;
  };
  if (inputs.size() != other.inputs.size() ||
      !std::equal(inputs.begin(), inputs.end(), other.inputs.begin(), same))
    return createStringError("the statistics are of different models: '" + model + "' with " +
                             llvm::Twine(inputs.size()) + " inputs and '" + other.model +
                             "' with " + llvm::Twine(other.inputs.size()));
  for (auto [mine, theirs] : llvm::zip(inputs, other.inputs)) {
    mine.rows += theirs.rows;
    auto add = [](auto &a, const auto &b) {
      for (auto [x, y] : llvm::zip(a, b))
        x += y;
    };
    add(mine.sum, theirs.sum);
    add(mine.sumAbs, theirs.sumAbs);
    add(mine.sumFourth, theirs.sumFourth);
    add(mine.hessian, theirs.hessian);
    for (auto [x, y] : llvm::zip(mine.absMax, theirs.absMax))
      x = std::max(x, y);
  }
  tokens += other.tokens;
  text += (text.empty() || other.text.empty() ? "" : ", ") + other.text;
  return Error::success();
}

/// E[x^4] / E[x^2]^2 over all columns together: 3 for a normal distribution.
static double kurtosis(const InputStatistics &input) {
  double fourth = 0, second = 0;
  for (int64_t k = 0; k < input.columns; ++k) {
    fourth += input.sumFourth[k];
    second += input.at(k, k);
  }
  double n = double(input.rows) * double(input.columns);
  return second > 0 ? fourth / n / (second / n * (second / n)) : 0;
}

/// Columns whose largest magnitude is more than six times the median column's.
static int64_t outliers(const InputStatistics &input) {
  std::vector<float> sorted = input.absMax;
  if (sorted.empty())
    return 0;
  std::nth_element(sorted.begin(), sorted.begin() + long(sorted.size() / 2), sorted.end());
  float median = sorted[sorted.size() / 2];
  return llvm::count_if(input.absMax, [&](float m) { return m > 6 * median; });
}

json::Object Statistics::summary() const {
  json::Array list;
  for (const InputStatistics &input : inputs) {
    json::Array names(input.weights);
    double square = 0;
    for (int64_t k = 0; k < input.columns; ++k)
      square += input.meanSquare(k);
    list.push_back(
        json::Object{{"weights", std::move(names)},
                     {"columns", input.columns},
                     {"rows", int64_t(input.rows)},
                     {"abs_max", input.absMax.empty() ? 0.0 : *llvm::max_element(input.absMax)},
                     {"rms", input.columns ? std::sqrt(square / double(input.columns)) : 0},
                     {"kurtosis", kurtosis(input)},
                     {"outlier_columns", outliers(input)}});
  }
  return json::Object{{"kind", "statistics"},
                      {"model", model},
                      {"text", text},
                      {"tokens", int64_t(tokens)},
                      {"inputs", std::move(list)}};
}

void Statistics::print(llvm::raw_ostream &os) const {
  os << "statistics   of " << (model.empty() ? "a model" : model) << "\n"
     << "text         " << text << ", " << tokens << " tokens\n\n"
     << "   rows columns  abs max      rms  kurtosis outliers  read by\n";
  json::Object all = summary();
  for (const json::Value &value : *all.getArray("inputs")) {
    const json::Object &input = *value.getAsObject();
    os << llvm::format("%7lld %7lld %8.3f %8.4f %9.1f %8lld  ", *input.getInteger("rows"),
                       *input.getInteger("columns"), *input.getNumber("abs_max"),
                       *input.getNumber("rms"), *input.getNumber("kurtosis"),
                       *input.getInteger("outlier_columns"));
    llvm::interleaveComma(*input.getArray("weights"), os,
                          [&](const json::Value &name) { os << *name.getAsString(); });
    os << "\n";
  }
}
