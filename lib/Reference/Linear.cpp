//===- Linear.cpp - Matrix products and row gathers -----------------------===//
//
// Weights come decoded to f32 (lib/Format); activations are rounded as the op asks.
//
//===----------------------------------------------------------------------===//
#include "quern/Reference/Ops.h"
#include <algorithm>
#include <cassert>
#include <cmath>

using namespace quern::reference;

// Eight partial sums, so that the compiler may keep them in vector registers without being
// allowed to reorder additions; the order is fixed, hence the result deterministic.
static constexpr size_t lanes = 8;

template <typename Term>
static double sumOfTerms(std::span<const double> a, std::span<const float> b, Term term) {
  assert(a.size() == b.size());
  double partial[lanes] = {};
  size_t i = 0;
  for (; i + lanes <= a.size(); i += lanes)
    for (size_t lane = 0; lane < lanes; ++lane)
      partial[lane] += term(a[i + lane] * b[i + lane]);
  double sum = 0;
  for (; i < a.size(); ++i)
    sum += term(a[i] * b[i]);
  for (double p : partial)
    sum += p;
  return sum;
}

double quern::reference::dot(std::span<const double> a, std::span<const float> b) {
  return sumOfTerms(a, b, [](double product) { return product; });
}

double quern::reference::absDot(std::span<const double> a, std::span<const float> b) {
  return sumOfTerms(a, b, [](double product) { return std::fabs(product); });
}

template <typename Activations>
static void multiply(Matrix x, Matrix weight, std::span<const float> bias, Activations activations,
                     std::span<float> out, Kept kept) {
  assert(x.cols == weight.cols && int64_t(out.size()) == x.rows * weight.rows);
  assert(bias.empty() || int64_t(bias.size()) == weight.rows);
  for (int64_t t = 0; t < x.rows; ++t) {
    std::vector<double> row = roundActivations(x.row(t), activations, kept);
    for (int64_t n = 0; n < weight.rows; ++n)
      out[t * weight.rows + n] =
          static_cast<float>(dot(row, weight.row(n)) + (bias.empty() ? 0.0 : double(bias[n])));
  }
}

void quern::reference::linear(Matrix x, Matrix weight, std::span<const float> bias,
                              ActivationFormat activations, std::span<float> out, Kept kept) {
  multiply(x, weight, bias, activations, out, kept);
}

void quern::reference::linear(Matrix x, Matrix weight, std::span<const float> bias,
                              StaticScale activations, std::span<float> out, Kept kept) {
  multiply(x, weight, bias, activations, out, kept);
}

void quern::reference::linearMagnitude(Matrix x, Matrix weight, std::span<const float> bias,
                                       ActivationFormat activations, std::span<double> out,
                                       Kept kept) {
  assert(x.cols == weight.cols && int64_t(out.size()) == x.rows * weight.rows);
  for (int64_t t = 0; t < x.rows; ++t) {
    std::vector<double> row = roundActivations(x.row(t), activations, kept);
    for (int64_t n = 0; n < weight.rows; ++n)
      out[t * weight.rows + n] =
          absDot(row, weight.row(n)) + (bias.empty() ? 0.0 : std::fabs(double(bias[n])));
  }
}

std::vector<float> quern::reference::takeColumns(Matrix x, std::span<const int32_t> columns) {
  assert(int64_t(columns.size()) == x.cols);
  std::vector<float> out;
  out.reserve(x.rows * x.cols);
  for (int64_t r = 0; r < x.rows; ++r)
    for (int32_t column : columns)
      out.push_back(x.row(r)[column]);
  return out;
}

void quern::reference::takeRows(Matrix table, std::span<const int32_t> ids, std::span<float> out) {
  assert(int64_t(out.size()) == int64_t(ids.size()) * table.cols);
  for (size_t i = 0; i < ids.size(); ++i) {
    assert(ids[i] >= 0 && ids[i] < table.rows);
    std::span<const float> row = table.row(ids[i]);
    std::copy(row.begin(), row.end(), out.begin() + i * table.cols);
  }
}
