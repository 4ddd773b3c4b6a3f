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

StringRef quern::quantize::positionsName(Positions positions) {
  static constexpr StringRef names[] = {"all", "first", "rest"};
  return names[size_t(positions)];
}

bool quern::quantize::isWeightName(StringRef name) {
  constexpr size_t longest = 255 - StringRef(".in_sum2").size();
  return !name.empty() && name.size() <= longest && json::isUTF8(name);
}

std::string InputStatistics::name() const {
  std::string out = weights.empty() ? "" : weights[0];
  return expert < 0 ? out : out + "', expert '" + std::to_string(expert);
}

const InputStatistics *Statistics::find(StringRef weight, int32_t expert) const {
  for (const InputStatistics &input : inputs)
    if (input.expert == expert && input.positions != Positions::First &&
        llvm::is_contained(input.weights, weight))
      return &input;
  return nullptr;
}

const InputStatistics *Statistics::findAll(StringRef weight, InputStatistics &sum) const {
  if (const InputStatistics *found = find(weight))
    return found;
  const InputStatistics *all = nullptr;
  for (int32_t expert = 0;; ++expert) {
    const InputStatistics *own = find(weight, expert);
    if (!own)
      return all;
    if (!all) {
      sum = *own;
      sum.expert = -1;
    } else if (own->columns == sum.columns && own->hasHessian() == sum.hasHessian()) {
      sum.add(*own);
    }
    all = &sum;
  }
}

Error Statistics::checkSame(const Statistics &other) const {
  bool same = inputs.size() == other.inputs.size();
  for (size_t i = 0; same && i < inputs.size(); ++i)
    same = inputs[i].isSameInput(other.inputs[i]);
  if (!same)
    return createStringError("the statistics are of different models: '" + model + "' with " +
                             llvm::Twine(inputs.size()) + " inputs and '" + other.model +
                             "' with " + llvm::Twine(other.inputs.size()));
  return Error::success();
}

/// Names of texts, one after the other.
static void appendText(std::string &text, StringRef other) {
  text += (text.empty() || other.empty() ? "" : ", ") + other.str();
}

Error Statistics::merge(const Statistics &other) {
  if (Error e = checkSame(other))
    return e;
  for (auto [mine, theirs] : llvm::zip(inputs, other.inputs))
    mine.add(theirs);
  tokens += other.tokens;
  appendText(text, other.text);
  return Error::success();
}

void Statistics::dropHessians() {
  for (InputStatistics &input : inputs) {
    input.triangle.clear();
    input.mapped = {};
  }
}

/// Adds up sums of squares.
static Error writeImatrixSum(llvm::ArrayRef<Statistics> parts, StringRef path, bool force) {
  Statistics sum = parts[0];
  sum.dropHessians();
  for (Statistics part : parts.drop_front()) {
    part.dropHessians();
    if (Error e = sum.merge(part))
      return e;
  }
  return sum.writeImatrix(path, force);
}

Error Statistics::writeSum(llvm::ArrayRef<Statistics> parts, StringRef path, bool force) {
  if (isImatrixName(path))
    return writeImatrixSum(parts, path, force);
  if (llvm::any_of(parts, [](const Statistics &part) { return part.squaresOnly; }))
    return createStringError("'" + path +
                             "' cannot hold importance matrices: expected a name that ends in "
                             ".gguf or .dat");
  Statistics head;
  head.model = parts[0].model;
  head.window = parts[0].window;
  for (const Statistics &part : parts) {
    if (Error e = parts[0].checkSame(part))
      return e;
    head.tokens += part.tokens;
    appendText(head.text, part.text);
  }
  llvm::Expected<StatisticsWriter> writer = StatisticsWriter::create(path, force);
  if (!writer)
    return writer.takeError();
  for (size_t i = 0; i < parts[0].inputs.size(); ++i) {
    InputStatistics sum = parts[0].inputs[i];
    for (const Statistics &part : parts.drop_front())
      sum.add(part.inputs[i]);
    writer->add(sum);
  }
  return writer->keep(head);
}

/// E[x^4] / E[x^2]^2 over all columns together: 3 for a normal distribution.
static double kurtosis(const InputStatistics &input) {
  double fourth = 0, second = 0;
  for (auto [a, b] : llvm::zip(input.sumFourth, input.sumSquare)) {
    fourth += a;
    second += b;
  }
  double n = double(input.rows) * double(input.columns);
  return second > 0 ? fourth / n / (second / n * (second / n)) : 0;
}

int64_t InputStatistics::outlierColumns() const {
  return llvm::count_if(outliers,
                        [&](uint64_t n) { return n && double(n) >= 0.06 * double(rows); });
}

/// Mean over columns and rows.
static double meanOf(const InputStatistics &input, const std::vector<double> &sums) {
  double n = double(input.rows) * double(input.columns), total = 0;
  for (double v : sums)
    total += v;
  return n > 0 ? total / n : 0;
}

/// 0 where nothing is known.
static double largest(const std::vector<float> &values) {
  return values.empty() ? 0 : double(*llvm::max_element(values));
}

/// Bins that are not empty, as [from, to, count]: magnitudes below 2^-24 as [0, 0, count].
static json::Array histogramOf(const InputStatistics &input) {
  json::Array out;
  for (auto [bin, count] : llvm::enumerate(input.histogram)) {
    if (!count)
      continue;
    int i = int(bin);
    bool negative = i > InputStatistics::binsOfSign;
    double from = InputStatistics::binStart(i), to = 0;
    if (i > 0) { // four an octave
      double octave = std::exp2(std::floor(std::log2(from)));
      to = from + octave / 4;
    }
    out.push_back(json::Array{negative ? -to : from, negative ? -from : to, int64_t(count)});
  }
  return out;
}

json::Object Statistics::summary() const {
  json::Array list;
  for (const InputStatistics &input : inputs) {
    bool seen = input.rows > 0 && !input.minimum.empty();
    double rms = std::sqrt(meanOf(input, input.sumSquare));
    json::Object object{{"weights", json::Array(input.weights)},
                        {"columns", input.columns},
                        {"rows", int64_t(input.rows)},
                        {"abs_max", largest(input.absMax)},
                        {"min", seen ? *llvm::min_element(input.minimum) : 0.0},
                        {"max", seen ? largest(input.maximum) : 0.0},
                        {"mean", meanOf(input, input.sum)},
                        {"mean_abs", meanOf(input, input.sumAbs)},
                        {"rms", rms},
                        {"third_moment", meanOf(input, input.sumCube)},
                        {"kurtosis", kurtosis(input)},
                        {"outlier_columns", input.outlierColumns()},
                        {"hessian", input.hasHessian()},
                        {"histogram", histogramOf(input)}};
    if (input.expert >= 0)
      object["expert"] = input.expert;
    if (input.positions != Positions::All)
      object["positions"] = positionsName(input.positions);
    list.push_back(std::move(object));
  }
  return json::Object{{"kind", "statistics"},
                      {"model", model},
                      {"text", text},
                      {"tokens", int64_t(tokens)},
                      {"squares_only", squaresOnly},
                      {"inputs", std::move(list)}};
}

void Statistics::print(llvm::raw_ostream &os) const {
  os << (squaresOnly ? "importance matrix of " : "statistics   of ")
     << (model.empty() ? "a model" : model) << "\n"
     << "text         " << text << ", " << tokens << " tokens\n\n"
     << "   rows columns  abs max mean abs      rms  kurtosis outliers  read by\n";
  for (const InputStatistics &input : inputs) {
    os << llvm::format("%7llu %7lld %8.3f %8.4f %8.4f %9.1f %8lld  ", input.rows, input.columns,
                       largest(input.absMax), meanOf(input, input.sumAbs),
                       std::sqrt(meanOf(input, input.sumSquare)), kurtosis(input),
                       input.outlierColumns());
    llvm::interleaveComma(input.weights, os);
    if (input.expert >= 0)
      os << ", expert " << input.expert;
    if (input.positions != Positions::All)
      os << " (" << (input.positions == Positions::First ? "first tokens" : "all but first tokens")
         << ")";
    os << "\n";
  }
  os << "\noutliers are columns that exceed " << InputStatistics::outlierRatio
     << " times the root mean square of their row in at least 6 % of the rows\n";
}
