//===- Accumulate.cpp - Sums over activations -----------------------------===//
//
// The Hessian grows block of columns by block of columns, each wholly the work of one thread,
// so that the order of additions is fixed. Products of a step are f32, their sum is f64.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Statistics.h"
#include <Eigen/Core>
#include <algorithm>
#include <cmath>

using namespace quern::quantize;

namespace {
/// Columns of a block: small enough to divide a layer's work among threads.
constexpr int64_t blockColumns = 64;
/// Rows added up in f32 before they are added to the f64 sums.
constexpr int64_t blockRows = 128;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
} // namespace

InputStatistics::InputStatistics(std::vector<std::string> weights, int64_t columns)
    : weights(std::move(weights)), columns(columns), absMax(columns), sum(columns), sumAbs(columns),
      sumFourth(columns), hessian(columns * columns) {}

void InputStatistics::add(const float *values, int64_t count, int thread, int threads) {
  if (thread == 0)
    rows += uint64_t(count);
  int64_t blocks = (columns + blockColumns - 1) / blockColumns;
  // Late blocks have fewer rows of the triangle, so neighbours go to different threads.
  for (int64_t block = thread; block < blocks; block += threads) {
    int64_t first = block * blockColumns, width = std::min(blockColumns, columns - first);
    for (int64_t row = 0; row < count; row += blockRows) {
      int64_t height = std::min(blockRows, count - row);
      Eigen::Map<const Matrix> x(values + row * columns, height, columns);
      Matrix product = x.rightCols(columns - first).transpose() * x.middleCols(first, width);
      for (int64_t i = first; i < columns; ++i)
        for (int64_t j = 0, end = std::min(width, i - first + 1); j < end; ++j)
          hessian[i * columns + first + j] += double(product(i - first, j));
    }
    for (int64_t row = 0; row < count; ++row)
      for (int64_t k = first; k < first + width; ++k) {
        float v = values[row * columns + k], magnitude = std::fabs(v);
        absMax[k] = std::max(absMax[k], magnitude);
        sum[k] += double(v);
        sumAbs[k] += double(magnitude);
        sumFourth[k] += double(v) * double(v) * double(v) * double(v);
      }
  }
}
