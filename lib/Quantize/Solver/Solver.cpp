//===- Solver.cpp - Solves matrices row by row ----------------------------===//
//
// Begins with what rounding to nearest gives, tries the method, and keeps the better per row.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Solver.h"
#include "TableFit.h"
#include "quern/Format/Encode.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/ThreadPool.h"
#include <Eigen/Core>
#include <numeric>

using namespace quern;
using namespace quern::quantize;
using llvm::ArrayRef;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

static constexpr std::pair<llvm::StringLiteral, Method> methods[] = {{"nearest", Method::Nearest},
                                                                     {"search", Method::Search},
                                                                     {"feedback", Method::Feedback},
                                                                     {"descent", Method::Descent}};

Expected<Method> quern::quantize::parseMethod(StringRef name) {
  for (const auto &[text, method] : methods)
    if (text == name)
      return method;
  return createStringError("unknown solver '" + name +
                           "'; known: nearest, search, feedback, descent");
}

StringRef quern::quantize::methodName(Method method) {
  for (const auto &[text, value] : methods)
    if (value == method)
      return text;
  llvm_unreachable("all methods named");
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

double quern::quantize::weightedError(ArrayRef<float> values, ArrayRef<float> decoded, int64_t rows,
                                      int64_t columns, ArrayRef<double> h) {
  using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Floats = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  Eigen::Map<const Floats> w(values.data(), rows, columns),
      approximate(decoded.data(), rows, columns);
  Matrix d = w.cast<double>() - approximate.cast<double>();
  Matrix product = d * Eigen::Map<const Matrix>(h.data(), columns, columns);
  double total = 0;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t k = 0; k < columns; ++k)
      total += d(r, k) * product(r, k);
  return total;
}

/// Leaves the row with the best choice found.
static void solveRow(Row &row, const SolveOptions &options) {
  Row::Choice best = row.choice();
  double least = row.error();
  auto keepBetter = [&] {
    if (double error = row.error(); error < least) {
      least = error;
      best = row.choice();
    }
  };
  auto descend = [&] {
    row.startDescent();
    for (unsigned sweep = 0; sweep < options.sweeps; ++sweep) {
      bool levels = row.descendLevels();
      bool codes = row.descendCodes();
      if (!levels && !codes)
        break;
    }
  };
  row.searchLevels();
  if (options.method == Method::Search) {
    row.roundNearest();
    keepBetter();
  } else {
    row.roundWithFeedback();
    keepBetter();
  }
  if (options.method == Method::Descent) {
    descend();
    keepBetter();
    // The levels have moved since the codes were fed back; once more with the new ones.
    row.roundWithFeedback();
    descend();
    keepBetter();
  }
  row.restore(best);
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
  if (Error e = format::encode(spec, values, rows, columns, out.components, tensor))
    return std::move(e);

  constexpr int64_t rowsPerTask = 16;
  int64_t tasks = (rows + rowsPerTask - 1) / rowsPerTask;
  std::vector<double> nearest(size_t(tasks), 0.0), solved(size_t(tasks), 0.0);
  // Decoding whole matrices would double the memory; errors are summed task by task.
  auto errorOf = [&](int64_t first, int64_t count, ArrayRef<float> decoded) {
    return weightedError(values.slice(size_t(first * columns), size_t(count * columns)),
                         decoded.slice(size_t(first * columns), size_t(count * columns)), count,
                         columns, hessian.raw);
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
    forTasks([&](int64_t task, int64_t first, int64_t count) {
      errors[size_t(task)] = errorOf(first, count, decoded);
    });
    return std::accumulate(errors.begin(), errors.end(), 0.0);
  };
  out.error = out.nearestError = measure(nearest);
  if (options.method == Method::Nearest || !isSolvable(spec))
    return out;
  // A learned table is fitted again once codes have been chosen, and they are chosen again.
  for (int pass = 0; pass < (isLearnedScalar(spec) ? 3 : 1); ++pass) {
    format::Components now = out.components;
    if (pass)
      now.table =
          fitTable(spec, values, CodeGrid(spec.code, now.table), hessian, now, options.threads);
    CodeGrid grid(spec.code, now.table);
    forTasks([&](int64_t, int64_t first, int64_t count) {
      Row row(spec, grid, hessian);
      for (int64_t r = first; r < first + count; ++r) {
        row.load(now, r, &values[size_t(r * columns)]);
        solveRow(row, options);
        row.store(now, r);
      }
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
