//===- TableFit.cpp - A learned table for codes that are chosen -----------===//
//
// For given codes and scales the error is a quadratic of the table's entries: with U the rows of
// scales by entry, the best entries solve (U H U^T) e = U H t, summed over all rows of the matrix.
//
//===----------------------------------------------------------------------===//
#include "TableFit.h"
#include "Vector.h"
#include "quern/Format/Number.h"
#include "llvm/Support/ThreadPool.h"
#include <Eigen/Cholesky>
#include <cmath>

using namespace quern;
using namespace quern::quantize;

using Matrix = Eigen::MatrixXd;
using Vector = Eigen::VectorXd;

void Row::addTableTerms(double *a, double *b) {
  size_t count = size_t(1) << spec.code.bitsPerIndex();
  std::vector<float> target(w);
  for (int64_t k = 0; k < n; ++k)
    target[size_t(k)] += zeroAt(k) * scaleAt(k) - offsetAt(k);
  // By entry: what one unit of it does to (w') H.
  std::vector<float> effect(count * size_t(n), 0.0f);
  for (int64_t k = 0; k < n; ++k)
    addScaled(&effect[grid.raw(codes[size_t(k)]) * size_t(n)], &h.damped[size_t(k * n)], scaleAt(k),
              n);
  for (size_t e = 0; e < count; ++e) {
    const float *own = &effect[e * size_t(n)];
    b[e] += double(dot(own, target.data(), n));
    for (int64_t k = 0; k < n; ++k)
      a[e * count + grid.raw(codes[size_t(k)])] += double(own[k]) * double(scaleAt(k));
  }
}

bool quern::quantize::isLearnedScalar(const format::Spec &spec) {
  return spec.code.kind == format::Code::Kind::Table && spec.code.table.isLearned() &&
         spec.code.valuesPerIndex() == 1;
}

std::vector<float> quern::quantize::fitTable(const format::Spec &spec, llvm::ArrayRef<float> values,
                                             const CodeGrid &grid, const Hessian &hessian,
                                             const format::Components &components,
                                             unsigned threads) {
  size_t count = components.table.size(), columns = size_t(hessian.columns);
  size_t rows = size_t(components.rows), perTask = 64, tasks = (rows + perTask - 1) / perTask;
  std::vector<std::vector<double>> sums(tasks);
  {
    llvm::DefaultThreadPool pool(llvm::hardware_concurrency(threads));
    for (size_t task = 0; task < tasks; ++task)
      pool.async([&, task] {
        sums[task].assign(count * count + count, 0.0);
        Row row(spec, grid, hessian, nullptr); // nothing is moved
        for (size_t r = task * perTask; r < std::min(rows, (task + 1) * perTask); ++r) {
          row.load(components, int64_t(r), &values[r * columns]);
          row.addTableTerms(sums[task].data(), sums[task].data() + count * count);
        }
      });
    pool.wait();
  }
  Matrix a = Matrix::Zero(Eigen::Index(count), Eigen::Index(count));
  Vector b = Vector::Zero(Eigen::Index(count));
  for (const std::vector<double> &sum : sums) // in order, whatever the number of threads
    for (size_t e = 0; e < count; ++e) {
      b[Eigen::Index(e)] += sum[count * count + e];
      for (size_t f = 0; f < count; ++f)
        a(Eigen::Index(e), Eigen::Index(f)) += sum[e * count + f];
    }
  // A little of what the entries are, for those that no code has.
  double ridge = 1e-6 * std::max(a.trace() / double(count), 1e-30);
  for (size_t e = 0; e < count; ++e) {
    a(Eigen::Index(e), Eigen::Index(e)) += ridge;
    b[Eigen::Index(e)] += ridge * double(components.table[e]);
  }
  Vector solved = a.ldlt().solve(b);
  const format::Number &number = spec.code.table.entryNumber;
  std::vector<float> out;
  for (size_t e = 0; e < count; ++e) {
    float entry =
        format::decodeNumber(number, format::encodeNumber(number, float(solved[Eigen::Index(e)])));
    out.push_back(std::isfinite(entry) ? entry : components.table[e]);
  }
  return out;
}
