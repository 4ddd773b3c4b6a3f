//===- Losses.cpp - What each format would cost, and the choice ------------===//
//
// One tensor at a time is replaced in the running float program; see Quantize.h.
//
//===----------------------------------------------------------------------===//
#include "Quantization.h"
#include <cmath>
#include <numeric>

using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

std::vector<Item> Quantization::items() const {
  std::vector<Item> out;
  for (auto [t, tensor] : llvm::enumerate(candidates->tensors)) {
    Item item;
    item.name = tensor.name;
    item.elements = uint64_t(tensor.rows * tensor.columns);
    for (const Candidate &c : tensor.candidates)
      item.options.push_back({c.type->name.str(), storedBytes(tensor, c),
                              c.kl >= 0 ? c.kl : sensitivity[t] * c.error, c.work});
    out.push_back(std::move(item));
  }
  return out;
}

Error Quantization::measureCandidate(Tensor &tensor, Candidate &candidate) {
  if (candidate.kl >= 0)
    return Error::success();
  std::string key = candidate.key + ".kl-" + textKey;
  if (auto found = store->find(key, 0, 1)) {
    candidate.kl = (*found)[0];
    return Error::success();
  }
  Expected<std::vector<float>> values = candidates->values(tensor, candidate);
  if (!values)
    return values.takeError();
  if (Error e = program->replaceWeight(tensor.name, *values, tensor.rows, tensor.columns))
    return e;
  // What comes before the tensor computes what it did.
  streams->replay(program->partOfWeight(tensor.name));
  Expected<Divergence> found = measure(*streams, *baseline);
  if (!found)
    return found.takeError();
  candidate.kl = std::max(0.0, found->mean());
  if (Error e = store->put(key, {}, {candidate.kl}))
    return e;
  return program->replaceWeight(tensor.name, {}, 0, 0);
}

Error Quantization::measureSensitivities() {
  uint64_t elements = 0;
  for (const Tensor &tensor : candidates->tensors)
    elements += uint64_t(tensor.rows * tensor.columns);
  double bits = budget.bytes == Limits::none ? 4.5 : double(budget.bytes) * 8 / double(elements);
  // The most weights first: if time runs out, what was measured mattered most.
  std::vector<size_t> order(candidates->tensors.size());
  std::iota(order.begin(), order.end(), 0);
  llvm::sort(order, [&](size_t a, size_t b) {
    const Tensor &x = candidates->tensors[a], &y = candidates->tensors[b];
    return std::pair(y.rows * y.columns, a) < std::pair(x.rows * x.columns, b);
  });
  std::vector<double> known;
  std::vector<size_t> unknown;
  for (auto [done, t] : llvm::enumerate(order)) {
    Tensor &tensor = candidates->tensors[t];
    if (Error e = step("measure", double(done) / double(order.size())))
      return e;
    // The candidate closest to the budget's bits tells most about its neighbours.
    auto distance = [&](const Candidate &c) {
      double own = double(c.bytes) * 8 / (double(tensor.rows) * double(tensor.columns));
      return std::fabs(own - bits);
    };
    Candidate *probe = &tensor.candidates[0];
    for (Candidate &c : tensor.candidates)
      if (distance(c) < distance(*probe))
        probe = &c;
    if (deadline.passed() && probe->kl < 0) {
      unknown.push_back(t);
      continue;
    }
    if (Error e = measureCandidate(tensor, *probe))
      return e;
    sensitivity[t] = probe->error > 0 ? probe->kl / probe->error : 0;
    if (sensitivity[t] > 0)
      known.push_back(sensitivity[t]);
  }
  if (unknown.empty())
    return Error::success();
  outOfTime = true;
  llvm::sort(known);
  for (size_t t : unknown)
    sensitivity[t] = known.empty() ? 1 : known[known.size() / 2];
  if (options.note)
    options.note("--time-limit: " + std::to_string(unknown.size()) + " of " +
                 std::to_string(order.size()) +
                 " tensors were not measured; their sensitivity is the median of the others'");
  return Error::success();
}

Expected<double> Quantization::measureAssignment(llvm::ArrayRef<uint32_t> choice,
                                                 const Baseline &on) {
  for (auto [tensor, index] : llvm::zip(candidates->tensors, choice)) {
    Expected<std::vector<float>> values = candidates->values(tensor, tensor.candidates[index]);
    if (!values)
      return values.takeError();
    if (Error e = program->replaceWeight(tensor.name, *values, tensor.rows, tensor.columns))
      return std::move(e);
  }
  Expected<Divergence> found = measure(*program, on);
  if (!found)
    return found.takeError();
  for (const Tensor &tensor : candidates->tensors)
    if (Error e = program->replaceWeight(tensor.name, {}, 0, 0))
      return std::move(e);
  return found->mean();
}

Expected<Assignment> Quantization::search() { return engine(items(), budget); }

Error Quantization::allocate() {
  sensitivity.assign(candidates->tensors.size(), 1.0);
  bool measured = options.provider == Provider::Measured && options.format.empty();
  if (measured)
    if (Error e = measureSensitivities())
      return e;
  constexpr int rounds = 4;
  for (int round = 0; options.maxKl == 0; ++round) {
    Expected<Assignment> found = search();
    if (!found)
      return found.takeError();
    assignment = std::move(*found);
    if (!measured || round == rounds || (outOfTime |= deadline.passed()))
      break;
    bool any = false;
    for (auto [tensor, index] : llvm::zip(candidates->tensors, assignment.choice))
      if (Candidate &c = tensor.candidates[index]; c.kl < 0) {
        any = true;
        if (Error e = step("measure", 1))
          return e;
        if (Error e = measureCandidate(tensor, c))
          return e;
      }
    if (!any)
      break;
  }
  if (options.maxKl > 0)
    if (Error e = findSmallest())
      return e;
  if (Expected<Assignment> same = uniform(items(), budget))
    uniformAssignment = std::move(*same);
  else
    llvm::consumeError(same.takeError());
  if (measures() && !outOfTime) {
    Expected<double> total = measureAssignment(assignment.choice, *baseline);
    if (!total)
      return total.takeError();
    kl = *total;
    if (heldBack) {
      Expected<double> held = measureAssignment(assignment.choice, *heldBack);
      if (!held)
        return held.takeError();
      heldBackKl = *held;
    }
  }
  return Error::success();
}
