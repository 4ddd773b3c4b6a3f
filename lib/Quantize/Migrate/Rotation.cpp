//===- Rotation.cpp - What the rotating passes share ----------------------===//
//
// All in f64, rounded to f32 once. No more than one tensor is in memory.
//
//===----------------------------------------------------------------------===//
#include "Rotation.h"
#include "quern/Reference/Hadamard.h"
#include <cmath>
#include <random>

using namespace mlir;
using namespace quern;
using namespace quern::migrate;
using llvm::Error;
using llvm::Expected;

int64_t quern::migrate::blockFor(int64_t width, int64_t most) {
  for (int64_t block = most; block > 1; --block)
    if (width % block == 0 && reference::hadamardFactor(block))
      return block;
  return 1;
}

Rotation Rotation::get(int64_t width, int64_t block, uint64_t seed) {
  Rotation out;
  out.block = block;
  const int64_t factor = reference::hadamardFactor(block), half = factor / 2;
  for (int64_t i = 0; i < half * half; ++i)
    out.conference.push_back(reference::conference(factor, i / half, i % half));
  out.signs.assign(size_t(width), 1.0);
  std::mt19937_64 random(seed);
  if (seed)
    for (double &sign : out.signs)
      sign = random() >> 63 ? -1.0 : 1.0;
  return out;
}

void Rotation::apply(llvm::MutableArrayRef<double> x) const {
  for (auto [v, sign] : llvm::zip(x, signs))
    v *= sign;
  const int64_t factor = reference::hadamardFactor(block);
  const size_t n = size_t(block / factor), half = size_t(factor / 2);
  for (size_t distance = 1; distance < n; distance *= 2)
    for (size_t run = 0; run < x.size(); run += 2 * distance)
      for (size_t i = run; i < run + distance; ++i) {
        double a = x[i], b = x[i + distance];
        x[i] = a + b;
        x[i + distance] = a - b;
      }
  std::vector<double> sums(half), differences(half);
  for (size_t begin = 0; half && begin < x.size(); begin += size_t(block))
    for (size_t first = begin; first < begin + n; ++first) {
      for (size_t i = 0; i < half; ++i) {
        double a = x[first + i * n], b = x[first + (half + i) * n];
        sums[i] = a + b;
        differences[i] = a - b;
      }
      for (size_t i = 0; i < half; ++i) {
        double low = differences[i], high = -sums[i];
        for (size_t j = 0; j < half; ++j) {
          double sign = conference[i * half + j];
          low += sign * sums[j];
          high += sign * differences[j];
        }
        x[first + i * n] = low;
        x[first + (half + i) * n] = high;
      }
    }
  for (double &v : x)
    v /= std::sqrt(double(block));
}

Error quern::migrate::rotateColumns(WeightStore &store, WeightOp weight, const Rotation &rotation,
                                    ArrayRef<double> gain) {
  Expected<std::vector<float>> values = store.load(weight);
  if (!values)
    return values.takeError();
  size_t columns = size_t(rotation.width());
  std::vector<double> row(columns);
  for (size_t begin = 0; begin < values->size(); begin += columns) {
    for (size_t k = 0; k < columns; ++k)
      row[k] = double((*values)[begin + k]) * (gain.empty() ? 1.0 : gain[k]);
    rotation.apply(row);
    for (size_t k = 0; k < columns; ++k)
      (*values)[begin + k] = float(row[k]);
  }
  return store.store(weight, *values);
}

Error quern::migrate::rotateRows(WeightStore &store, WeightOp weight, const Rotation &rotation) {
  Expected<std::vector<float>> values = store.load(weight);
  if (!values)
    return values.takeError();
  size_t rows = size_t(rotation.width());
  ArrayRef<int64_t> shape = weight.getTensorType().getShape();
  size_t columns = shape.size() > 1 ? size_t(shape.back()) : 1;
  std::vector<double> column(rows);
  for (size_t matrix = 0; matrix < values->size(); matrix += rows * columns)
    for (size_t k = 0; k < columns; ++k) {
      float *first = values->data() + matrix + k;
      for (size_t i = 0; i < rows; ++i)
        column[i] = double(first[i * columns]);
      rotation.apply(column);
      for (size_t i = 0; i < rows; ++i)
        first[i * columns] = float(column[i]);
    }
  return store.store(weight, *values);
}
