//===- Experts.cpp - Mixture of experts -----------------------------------===//
//
// Routing, the indexed product, and the weighted sum of the experts' results.
//
//===----------------------------------------------------------------------===//
#include "quern/Reference/Ops.h"
#include <algorithm>
#include <cassert>
#include <cmath>

using namespace quern::reference;

void quern::reference::route(Matrix logits, int64_t used, bool normalize,
                             std::span<int32_t> indices, std::span<float> weights) {
  int64_t experts = logits.cols;
  assert(used > 0 && used <= experts);
  assert(int64_t(indices.size()) == logits.rows * used && weights.size() == indices.size());
  for (int64_t t = 0; t < logits.rows; ++t) {
    std::span<const float> row = logits.row(t);
    // Selection by comparisons that a NaN always loses: never undefined, unlike sorting.
    std::vector<int32_t> order;
    std::vector<bool> taken(experts);
    for (int64_t j = 0; j < used; ++j) {
      int32_t best = -1;
      for (int32_t e = 0; e < experts; ++e)
        if (!taken[e] && (best < 0 || row[e] > row[best]))
          best = e;
      taken[best] = true;
      order.push_back(best);
    }
    double largest = row[order[0]], total = 0, chosen = 0;
    for (int64_t e = 0; e < experts; ++e)
      total += std::exp(row[e] - largest);
    for (int64_t j = 0; j < used; ++j)
      chosen += std::exp(row[order[j]] - largest);
    for (int64_t j = 0; j < used; ++j) {
      indices[t * used + j] = order[j];
      weights[t * used + j] =
          static_cast<float>(std::exp(row[order[j]] - largest) / (normalize ? chosen : total));
    }
  }
}

void quern::reference::expertLinear(Matrix x, Matrix weights, int64_t experts,
                                    std::span<const int32_t> indices, int64_t used,
                                    ActivationFormat activations, std::span<float> out) {
  int64_t rowsPerExpert = weights.rows / experts, tokens = int64_t(indices.size()) / used;
  assert(x.rows == tokens || x.rows == tokens * used);
  assert(int64_t(out.size()) == tokens * used * rowsPerExpert);
  bool shared = x.rows == tokens && used != 1;
  for (size_t i = 0; i < indices.size(); ++i) {
    assert(indices[i] >= 0 && indices[i] < experts);
    Matrix row{x.row(shared ? i / used : i), 1, x.cols};
    Matrix expert{weights.data.subspan(indices[i] * rowsPerExpert * weights.cols,
                                       rowsPerExpert * weights.cols),
                  rowsPerExpert, weights.cols};
    linear(row, expert, {}, activations, out.subspan(i * rowsPerExpert, rowsPerExpert));
  }
}

void quern::reference::combineExperts(std::span<const float> x, std::span<const float> weights,
                                      int64_t used, int64_t width, std::span<float> out) {
  assert(x.size() == weights.size() * size_t(width));
  assert(int64_t(out.size()) == int64_t(weights.size()) / used * width);
  for (int64_t t = 0; t < int64_t(weights.size()) / used; ++t)
    for (int64_t i = 0; i < width; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < used; ++j)
        sum += double(weights[t * used + j]) * x[(t * used + j) * width + i];
      out[t * width + i] = static_cast<float>(sum);
    }
}
