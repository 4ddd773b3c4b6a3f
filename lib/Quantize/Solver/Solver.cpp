//===- Solver.cpp - Solves matrices row by row ----------------------------===//
//
// Divides a matrix into batches of rows, and sums up their errors.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Solver.h"
#include "Batch.h"
#include "Split.h"
#include "TableFit.h"
#include "quern/Format/Encode.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/ThreadPool.h"
#include <numeric>

using namespace quern;
using namespace quern::quantize;
using llvm::ArrayRef;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

Expected<Method> quern::quantize::parseMethod(StringRef name) {
  std::string known;
  for (const SolverInfo &solver : solvers()) {
    if (solver.name == name)
      return solver.method;
    known += (known.empty() ? "" : ", ") + solver.name.str();
  }
  return createStringError("unknown solver '" + name + "'; known: " + known);
}

StringRef quern::quantize::methodName(Method method) {
  return solverOf(method).name;
}

bool quern::quantize::isSolvable(const format::Spec &spec) {
  using Kind = format::Code::Kind;
  if (spec.kind != format::Spec::Kind::Base || spec.scale.empty())
    return false;
  const format::Code &code = spec.code;
  if (code.kind == Kind::Table)
    return code.valuesPerIndex() == 1 && code.table.signs == format::Table::Signs::None &&
           code.bitsPerIndex() <= 8;
  return code.bitsPerIndex() <= 8;
}

/// Of rows [first, first + count). Half of the products tell the rest, H being symmetric.
static double errorOfRows(ArrayRef<float> values, ArrayRef<float> decoded, int64_t first,
                          int64_t count, int64_t columns, ArrayRef<double> h) {
  constexpr int64_t block = 64;
  size_t size = size_t(count * columns);
  std::vector<double> rest(size), twice(size), image(size);
  for (size_t i = 0; i < size; ++i) {
    size_t at = size_t(first * columns) + i;
    rest[i] = double(values[at]) - double(decoded[at]);
    twice[i] = 2 * rest[i];
  }
  for (int64_t begin = 0; begin < columns; begin += block) {
    int64_t end = std::min(columns, begin + block);
    auto add = [&](const std::vector<double> &factors, int64_t from, int64_t to) {
      addProduct(Product<double>{image.data() + from, columns, factors.data() + begin, columns,
                                 &h[size_t(begin * columns + from)], columns, count, end - begin,
                                 to - from});
    };
    add(rest, begin, end);
    if (end < columns)
      add(twice, end, columns);
  }
  double total = 0;
  for (size_t i = 0; i < size; ++i)
    total += rest[i] * image[i];
  return total;
}

/// Rows that are solved together, by one thread.
static constexpr int64_t rowsPerTask = 16;

double quern::quantize::weightedError(ArrayRef<float> values, ArrayRef<float> decoded, int64_t rows,
                                      int64_t columns, ArrayRef<double> h) {
  double total = 0;
  for (int64_t first = 0; first < rows; first += rowsPerTask)
    total += errorOfRows(values, decoded, first, std::min(rowsPerTask, rows - first), columns, h);
  return total;
}

/// Of a column split, the better of nearest rounding (`out`) and solving.
static Expected<Solution> betterSplit(const format::Spec &spec, ArrayRef<float> values,
                                      int64_t rows, const Hessian &hessian,
                                      const SolveOptions &options, StringRef tensor,
                                      Solution out) {
  std::vector<float> decoded(values.size());
  if (Error e = format::decode(spec, out.components, decoded))
    return std::move(e);
  out.error = out.nearestError =
      weightedError(values, decoded, rows, hessian.columns, hessian.raw);
  if (options.method == Method::Nearest)
    return out;
  format::Components solved = out.components;
  if (Error e = solveSplit(spec, values, rows, hessian, options, tensor, solved))
    return std::move(e);
  if (Error e = format::decode(spec, solved, decoded))
    return std::move(e);
  double error = weightedError(values, decoded, rows, hessian.columns, hessian.raw);
  if (error < out.error) {
    out.error = error;
    out.components = std::move(solved);
  }
  return out;
}

Expected<Solution> quern::quantize::solve(const format::Spec &spec, ArrayRef<float> values,
                                          int64_t rows, const Hessian &hessian,
                                          const SolveOptions &options, StringRef tensor) {
  int64_t columns = hessian.columns;
  if (int64_t(values.size()) != rows * columns)
    return createStringError("tensor '" + tensor + "': expected rows of " + llvm::Twine(columns) +
                             " values for its statistics, found " + llvm::Twine(values.size()) +
                             " values in " + llvm::Twine(rows) + " rows");
  Solution out;
  if (Error e = format::encode(spec, values, rows, columns, out.components, tensor, 0,
                               options.leading))
    return std::move(e);
  if (spec.kind == format::Spec::Kind::Split)
    return betterSplit(spec, values, rows, hessian, options, tensor, std::move(out));

  int64_t tasks = (rows + rowsPerTask - 1) / rowsPerTask;
  std::vector<double> nearest(size_t(tasks), 0.0), solved(size_t(tasks), 0.0);
  auto errorOf = [&](int64_t first, ArrayRef<float> decoded) {
    return errorOfRows(values, decoded, first, std::min(rowsPerTask, rows - first), columns,
                       hessian.raw);
  };
  std::vector<float> decoded(values.size());
  if (Error e = format::decode(spec, out.components, decoded))
    return std::move(e);
  llvm::DefaultThreadPool pool(llvm::hardware_concurrency(options.threads));
  auto forTasks = [&](llvm::function_ref<void(int64_t task, int64_t first, int64_t count)> run) {
    for (int64_t task = 0; task < tasks; ++task)
      pool.async(
          [=] { run(task, task * rowsPerTask, std::min(rowsPerTask, rows - task * rowsPerTask)); });
    pool.wait();
  };
  auto measure = [&](std::vector<double> &errors) {
    forTasks([&](int64_t task, int64_t first, int64_t) {
      errors[size_t(task)] = errorOf(first, decoded);
    });
    return std::accumulate(errors.begin(), errors.end(), 0.0);
  };
  out.error = out.nearestError = measure(nearest);
  if (options.method == Method::Nearest || !isSolvable(spec))
    return out;
  Blocks blocks(spec, hessian);
  // A learned table is fitted again once codes have been chosen, and they are chosen again.
  for (int pass = 0; pass < (isLearnedScalar(spec) ? 3 : 1); ++pass) {
    format::Components now = out.components;
    if (pass)
      now.table =
          fitTable(spec, values, CodeGrid(spec.code, now.table), hessian, now, options.threads);
    CodeGrid grid(spec.code, now.table);
    forTasks([&](int64_t, int64_t first, int64_t count) {
      Batch(spec, grid, hessian, blocks, count).solve(now, values, first, count, options);
    });
    if (Error e = format::decode(spec, now, decoded))
      return std::move(e);
    double error = measure(solved);
    if (pass && !(error < out.error))
      break;
    out.error = error;
    out.components = std::move(now);
  }
  return out;
}
