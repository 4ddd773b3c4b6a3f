//===- Rotation.cpp - What the rotating passes share ----------------------===//
//
// All in f64, rounded to f32 once. No more than one tensor is in memory.
//
//===----------------------------------------------------------------------===//
#include "Rotation.h"
#include <cmath>
#include <random>

using namespace mlir;
using namespace quern;
using namespace quern::migrate;
using llvm::Error;
using llvm::Expected;

int64_t quern::migrate::blockFor(int64_t width, int64_t most) {
  int64_t block = 1;
  while (block * 2 <= most && width % (block * 2) == 0)
    block *= 2;
  return block;
}

Rotation Rotation::get(int64_t width, int64_t block, uint64_t seed) {
  Rotation out;
  out.block = block;
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
  size_t n = size_t(block);
  for (size_t distance = 1; distance < n; distance *= 2)
    for (size_t i = 0; i < x.size(); ++i)
      if (!(i & distance)) {
        double a = x[i], b = x[i + distance];
        x[i] = a + b;
        x[i + distance] = a - b;
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
