//===- Losses.cpp - What each format would cost, and the choice ------------===//
//
// One tensor at a time is replaced in the running float program; see Quantize.h.
//
//===----------------------------------------------------------------------===//
#include "Quantization.h"
#include <cmath>
#include <map>
#include <numeric>

using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

std::vector<Item> Quantization::items() const {
  std::vector<Item> out;
  std::map<std::tuple<StringRef, int64_t, int64_t>, int32_t> kernels;
  for (auto [t, tensor] : llvm::enumerate(candidates->tensors)) {
    Item item;
    item.name = tensor.name;
    item.elements = uint64_t(tensor.rows * tensor.columns);
    for (auto [c, candidate] : llvm::enumerate(tensor.candidates))
      item.options.push_back(
          {candidate.name, storedBytes(tensor, candidate, kind()), lossOf(t, c), candidate.work,
           kernels
               .try_emplace({candidate.name, tensor.rows, tensor.columns}, int32_t(kernels.size()))
               .first->second});
    out.push_back(std::move(item));
  }
  return out;
}

/// The divergence with other values of a tensor; what was measured under `key` is not again.
Expected<double> Quantization::measureValues(const Tensor &tensor, StringRef key,
                                             llvm::ArrayRef<float> values) {
  std::string file = (key + ".kl-" + textKey).str();
  if (auto found = store->find(file, 0, 1))
    return (*found)[0];
  if (Error e = program->replaceWeight(tensor.name, values, tensor.rows, tensor.columns))
    return std::move(e);
  // What comes before the tensor computes what it did.
  streams->replay(program->partOfWeight(tensor.name));
  Expected<Divergence> found = measure(*streams, *baseline);
  if (!found)
    return found.takeError();
  double kl = std::max(0.0, found->mean());
  if (Error e = store->put(file, {}, {kl}))
    return std::move(e);
  if (Error e = program->replaceWeight(tensor.name, {}, 0, 0))
    return std::move(e);
  return kl;
}

Error Quantization::measureCandidate(Tensor &tensor, Candidate &candidate) {
  if (candidate.kl >= 0)
    return Error::success();
  Expected<std::vector<float>> values = candidates->values(tensor, candidate);
  if (!values)
    return values.takeError();
  return measureValues(tensor, candidate.key, *values).moveInto(candidate.kl);
}

/// Bits of the candidate that stands for a matrix. Budgets that are close share it, so that what
/// was measured for one size is not measured again for its neighbour; it depends on the budget
/// alone, never on what a store happens to hold.
static double typicalBits(double wanted) {
  return 4.5 * std::exp2(std::round(2 * std::log2(wanted / 4.5)) / 2);
}

/// The tensor as providers see it.
Subject Quantization::subjectOf(const Tensor &tensor) {
  Subject out;
  out.name = tensor.name;
  out.rows = tensor.rows;
  out.columns = tensor.columns;
  out.damping = options.damping;
  out.seed = options.seed;
  out.parts = tensor.parts();
  out.values = [this, &tensor] { return readValues(source.model, candidates->source(tensor)); };
  uint64_t elements = 0;
  for (const Tensor &other : candidates->tensors)
    elements += uint64_t(other.rows * other.columns);
  // The candidate closest to the budget's bits tells most about its neighbours.
  double wanted =
      budget.bytes == Limits::none ? 4.5 : typicalBits(double(budget.bytes) * 8 / double(elements));
  for (const Candidate &candidate : tensor.candidates) {
    double bits = double(candidate.bytes) * 8 / (double(tensor.rows) * double(tensor.columns));
    out.choices.push_back({candidate.name, bits, candidate.error, [this, &tensor, &candidate] {
                             return candidates->values(tensor, candidate);
                           }});
    if (std::fabs(bits - wanted) < std::fabs(out.choices[out.typical].bits - wanted))
      out.typical = out.choices.size() - 1;
  }
  out.divergence = [this, &tensor](llvm::ArrayRef<float> values) -> Expected<double> {
    std::string key = tensor.name + "." + Key("values").addAll(values).digits();
    return measureValues(tensor, key, values);
  };
  return out;
}

/// Asks the provider about all tensors.
Error Quantization::findLosses() {
  // The most weights first: if time runs out, what was measured mattered most.
  std::vector<size_t> order(candidates->tensors.size());
  std::iota(order.begin(), order.end(), 0);
  llvm::sort(order, [&](size_t a, size_t b) {
    const Tensor &x = candidates->tensors[a], &y = candidates->tensors[b];
    return std::pair(y.rows * y.columns, a) < std::pair(x.rows * x.columns, b);
  });
  std::vector<double> known; // losses for an error of 1
  std::vector<size_t> unknown;
  for (auto [done, t] : llvm::enumerate(order)) {
    Tensor &tensor = candidates->tensors[t];
    if (Error e =
            step(provider->runs ? "measure" : "estimate", double(done) / double(order.size())))
      return e;
    if (deadline.passed()) {
      unknown.push_back(t);
      continue;
    }
    Subject subject = subjectOf(tensor);
    Losses losses = provider->run(subject);
    if (!losses)
      return createStringError("tensor '" + tensor.name +
                               "': " + llvm::toString(losses.takeError()));
    for (auto [candidate, loss] : llvm::zip_equal(tensor.candidates, *losses))
      candidate.loss = loss;
    Candidate &typical = tensor.candidates[subject.typical];
    if (options.provider == "measured")
      typical.kl = typical.loss;
    if (typical.error > 0 && typical.loss > 0)
      known.push_back(typical.loss / typical.error);
  }
  if (unknown.empty())
    return Error::success();
  outOfTime = true;
  llvm::sort(known);
  double median = known.empty() ? 1 : known[known.size() / 2];
  for (size_t t : unknown)
    for (Candidate &candidate : candidates->tensors[t].candidates)
      candidate.loss = median * candidate.error;
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

Expected<Assignment> Quantization::allocateWith(StringRef name, Engine run) {
  std::vector<Item> all = items();
  if (name != "uniform")
    return allocateKinds(all, budget, kernelBytes, run);
  // Kernels that are left out would be formats left out; those of one format are few.
  Expected<Assignment> found = run(all, budget);
  if (!found || !kernelBytes || budget.bytes == Limits::none)
    return found;
  uint64_t code = kernelBytes * countKinds(all, found->choice);
  return run(all, {budget.bytes - std::min(budget.bytes, code), budget.work});
}

Expected<Assignment> Quantization::search() { return allocateWith(options.engine, engine); }

Error Quantization::allocate() {
  if (!isFixed()) {
    if (Error e = findLosses())
      return e;
  } else {
    for (Tensor &tensor : candidates->tensors)
      for (Candidate &candidate : tensor.candidates)
        candidate.loss = candidate.error;
  }
  // What is chosen is measured itself, in the unit in which the others were estimated.
  bool measured = options.provider == "measured" && !isFixed();
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
  if (Expected<Assignment> same = allocateWith("uniform", uniform))
    uniformAssignment = std::move(*same);
  else
    llvm::consumeError(same.takeError());
  return measureChosen();
}

Error Quantization::measureChosen() {
  kl = heldBackKl = -1;
  if (!measures() || outOfTime)
    return Error::success();
  if (Error e = measureAssignment(assignment.choice, *baseline).moveInto(kl))
    return e;
  if (!heldBack)
    return Error::success();
  return measureAssignment(assignment.choice, *heldBack).moveInto(heldBackKl);
}
