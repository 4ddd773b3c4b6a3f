//===- Split.cpp - Two quantizers for one matrix --------------------------===//
//
// Of a column split the last set L has few bits, the leading sets A have many. Whatever error E_L
// the codes of L leave, A can take up part of it: with H cut into blocks, the least of
// tr(E H E^T) over E_A is tr(E_L S E_L^T) with
//
//   S = H_LL - H_LA H_AA^-1 H_AL   at   E_A = -E_L H_LA H_AA^-1.
//
// So L is solved with S in place of H, and A is rounded from W_A - E_A (E = W - W').
//
//===----------------------------------------------------------------------===//
#include "Split.h"
#include "quern/Format/Encode.h"
#include "llvm/ADT/STLExtras.h"
#include <Eigen/Cholesky>

using namespace quern;
using namespace quern::quantize;
using llvm::ArrayRef;
using llvm::Error;
using llvm::Expected;

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Columns of `values`, in that order.
static std::vector<float> take(ArrayRef<float> values, int64_t rows, ArrayRef<int32_t> columns) {
  int64_t all = int64_t(values.size()) / std::max<int64_t>(rows, 1);
  std::vector<float> out;
  out.reserve(size_t(rows) * columns.size());
  for (int64_t r = 0; r < rows; ++r)
    for (int32_t column : columns)
      out.push_back(values[size_t(r * all + column)]);
  return out;
}

static Matrix block(const Hessian &hessian, ArrayRef<int32_t> rows, ArrayRef<int32_t> columns) {
  Matrix out(rows.size(), columns.size());
  for (auto [i, row] : llvm::enumerate(rows))
    for (auto [j, column] : llvm::enumerate(columns))
      out(int64_t(i), int64_t(j)) = hessian.damped[size_t(row * hessian.columns + column)];
  return out;
}

Error quern::quantize::solveSplit(const format::Spec &spec, ArrayRef<float> values, int64_t rows,
                                  const Hessian &hessian, const SolveOptions &options,
                                  llvm::StringRef tensor, format::Components &components) {
  format::Components &last = components.terms.back();
  ArrayRef<int32_t> order = components.permutation;
  ArrayRef<int32_t> leading = order.drop_back(size_t(last.cols)), rest = order.take_back(last.cols);
  Eigen::LLT<Matrix> leadingFactor(block(hessian, leading, leading));
  if (leadingFactor.info() != Eigen::Success)
    return llvm::createStringError("tensor '" + tensor +
                                   "': the Hessian of a split's columns is not positive definite");
  Matrix across = block(hessian, leading, rest);   // H_AL
  Matrix carried = leadingFactor.solve(across);    // H_AA^-1 H_AL
  Matrix schur = block(hessian, rest, rest) - across.transpose() * carried;
  // `damped` has its damping already; more is added only if rounding made S indefinite.
  Expected<Hessian> restHessian =
      Hessian::create({schur.data(), schur.data() + schur.size()}, int64_t(rest.size()), 0);
  if (!restHessian)
    return restHessian.takeError();
  std::vector<float> own = take(values, rows, rest);
  Expected<Solution> solved = solve(spec.terms.back(), own, rows, *restHessian, options, tensor);
  if (!solved)
    return solved.takeError();
  last = std::move(solved->components);

  std::vector<float> decoded(own.size());
  if (Error e = format::decode(spec.terms.back(), last, decoded))
    return e;
  Matrix error(rows, int64_t(rest.size()));
  for (int64_t i = 0; i < error.size(); ++i)
    error.data()[i] = double(own[size_t(i)]) - double(decoded[size_t(i)]);
  Matrix targets = error * carried.transpose();
  for (size_t t = 0, begin = 0; t + 1 < spec.terms.size(); ++t) {
    int64_t count = components.terms[t].cols;
    std::vector<float> set = take(values, rows, leading.slice(begin, size_t(count)));
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < count; ++i)
        set[size_t(r * count + i)] += float(targets(r, int64_t(begin) + i));
    if (Error e = format::encode(spec.terms[t], set, rows, count, components.terms[t], tensor))
      return e;
    begin += size_t(count);
  }
  return Error::success();
}
