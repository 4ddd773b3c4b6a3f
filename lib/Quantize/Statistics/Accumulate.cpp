//===- Accumulate.cpp - Sums over activations -----------------------------===//
//
// The Hessian grows block of columns by block of columns, each wholly the work of one thread,
// so that the order of additions is fixed. Products of a step are f32, their sum is f64.
//
//===----------------------------------------------------------------------===//
#include "Gram.h"
#include "quern/Quantize/Statistics.h"
#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

using namespace quern::quantize;

namespace {
/// Columns of a block: small enough to divide a layer's work among threads.
constexpr int64_t blockColumns = 64;
/// Rows added up in f32 before they are added to the f64 sums.
constexpr int64_t blockRows = 128;

/// The bin of a value: its exponent and the two bits behind it.
int binOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  constexpr int32_t least = (127 - 24) << 2; // of 2^-24
  int32_t step = int32_t((bits & 0x7fffffffu) >> 21) - least;
  if (step < 0)
    return 0;
  step = std::min(step, InputStatistics::binsOfSign - 1);
  return 1 + step + (bits >> 31 ? InputStatistics::binsOfSign : 0);
}
} // namespace

double InputStatistics::binStart(int i) {
  return i == 0 ? 0 : std::ldexp(1 + (i - 1) % 4 / 4.0, (i - 1) % binsOfSign / 4 - 24);
}

InputStatistics::InputStatistics(std::vector<std::string> weights, int64_t columns, bool hessian)
    : weights(std::move(weights)), columns(columns), minimum(columns), maximum(columns),
      absMax(columns), sum(columns), sumAbs(columns), sumSquare(columns), sumCube(columns),
      sumFourth(columns), outliers(columns), histogram(bins),
      triangle(hessian ? columns * (columns + 1) / 2 : 0) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  std::fill(minimum.begin(), minimum.end(), infinity);
  std::fill(maximum.begin(), maximum.end(), -infinity);
}

InputStatistics InputStatistics::squaresOf(std::vector<std::string> weights, int64_t columns) {
  InputStatistics out;
  out.weights = std::move(weights);
  out.columns = columns;
  out.sumSquare.resize(size_t(columns));
  return out;
}

void InputStatistics::add(const float *values, int64_t count, int thread, int threads) {
  std::vector<float> bounds; // above which a value of the row is an outlier
  bounds.reserve(size_t(count));
  for (int64_t row = 0; row < count; ++row) {
    double square = sumOfSquares(values + row * columns, columns);
    bounds.push_back(float(outlierRatio * std::sqrt(square / double(columns))));
  }
  std::array<uint64_t, bins> counts = {};
  Moments moments = {minimum.data(), maximum.data(),   absMax.data(),  sum.data(),      sumAbs.data(),
                     sumSquare.data(), sumCube.data(), sumFourth.data(), outliers.data()};
  int64_t blocks = (columns + blockColumns - 1) / blockColumns;
  // Late blocks have fewer rows of the triangle, so neighbours go to different threads.
  for (int64_t block = thread; block < blocks; block += threads) {
    int64_t begin = block * blockColumns, width = std::min(blockColumns, columns - begin);
    std::vector<float> product(triangle.empty() ? 0 : size_t((columns - begin) * width));
    for (int64_t row = 0; !triangle.empty() && row < count; row += blockRows) {
      int64_t height = std::min(blockRows, count - row);
      multiplyColumns(values + row * columns, height, columns, begin, width, product.data());
      for (int64_t i = begin; i < columns; ++i)
        for (int64_t j = 0, end = std::min(width, i - begin + 1); j < end; ++j)
          triangle[i * (i + 1) / 2 + begin + j] += double(product[size_t((i - begin) * width + j)]);
    }
    for (int64_t row = 0; row < count; ++row) {
      addMoments(moments, values + row * columns, begin, begin + width, bounds[size_t(row)]);
      for (int64_t k = begin; k < begin + width; ++k)
        ++counts[size_t(binOf(values[row * columns + k]))];
    }
  }
  // Counts are shared by threads; their order does not matter.
  for (size_t bin = 0; bin < bins; ++bin)
    if (counts[bin])
      std::atomic_ref(histogram[bin]).fetch_add(counts[bin], std::memory_order_relaxed);
  if (thread == 0)
    rows += uint64_t(count);
}

void InputStatistics::add(const InputStatistics &other) {
  if (!mapped.empty()) {
    triangle.assign(mapped.begin(), mapped.end());
    mapped = {};
  }
  auto combine = [&](auto member, auto with) {
    auto &mine = this->*member;
    const auto &theirs = other.*member;
    if (theirs.empty())
      mine.clear();
    for (size_t i = 0; i < mine.size(); ++i)
      mine[i] = with(mine[i], theirs[i]);
  };
  using Self = InputStatistics;
  combine(&Self::minimum, [](float a, float b) { return std::min(a, b); });
  for (auto largest : {&Self::maximum, &Self::absMax})
    combine(largest, [](float a, float b) { return std::max(a, b); });
  for (auto sums : {&Self::sum, &Self::sumAbs, &Self::sumSquare, &Self::sumCube, &Self::sumFourth})
    combine(sums, std::plus<double>());
  for (auto counts : {&Self::outliers, &Self::histogram})
    combine(counts, std::plus<uint64_t>());
  for (size_t i = 0; i < triangle.size(); ++i)
    triangle[i] += other.mapped.empty() ? other.triangle[i] : double(other.mapped[i]);
  rows += other.rows;
  hash = 0;
}

std::vector<double> InputStatistics::meanHessian() const {
  std::vector<double> out(size_t(columns * columns));
  double count = double(std::max<uint64_t>(rows, 1));
  for (int64_t i = 0; i < columns; ++i)
    for (int64_t j = 0; j <= i; ++j)
      out[size_t(i * columns + j)] = at(i, j) / count;
  return out;
}
