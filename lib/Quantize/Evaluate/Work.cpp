//===- Work.cpp - What assignments take beside bytes ----------------------===//
//
// The cost model of a run, the budget in its unit, and the bytes that a format takes where it is
// going to lie.
//
//===----------------------------------------------------------------------===//
#include "Quantization.h"
#include "quern/Format/PackedLayout.h"
#include "quern/Pipeline/ModuleFile.h"
#include "llvm/Support/FormatVariadic.h"

using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

Error Quantization::openCost() {
  std::string name = options.cost;
  StringRef needed = options.tokensPerSecond > 0 ? "time" : options.bitOperations ? "bitops" : "";
  if (name.empty())
    name = needed.str();
  if (name.empty())
    return Error::success();
  Expected<std::unique_ptr<CostModel>> made = createCostModel(name);
  if (!made)
    return made.takeError();
  cost = std::move(*made);
  if (options.tokensPerSecond > 0 && !cost->isTime())
    return createStringError("--tokens-per-second needs --cost time or time=FILE, not '" + name +
                             "'");
  if (options.bitOperations && cost->unit() != "bit operations")
    return createStringError("--bit-operations needs --cost bitops, not '" + name + "'");
  return Error::success();
}

Error Quantization::findWorkBudget() {
  if (!cost)
    return Error::success();
  uint64_t least = cost->other();
  for (Tensor &tensor : candidates->tensors) {
    uint64_t own = UINT64_MAX;
    for (Candidate &candidate : tensor.candidates) {
      if (tensor.isProduct)
        if (Error e =
                cost->work(candidate.spec, tensor.usedRows, tensor.columns).moveInto(candidate.work))
          return createStringError("--cost " + options.cost + ": tensor '" + tensor.name +
                                   "': " + llvm::toString(std::move(e)));
      own = std::min(own, candidate.work);
    }
    least += own;
  }
  uint64_t allowed = Limits::none;
  if (options.tokensPerSecond > 0)
    allowed = uint64_t(1e12 / options.tokensPerSecond);
  else if (options.bitOperations)
    allowed = options.bitOperations;
  if (allowed == Limits::none)
    return Error::success();
  if (allowed < least) {
    if (cost->isTime())
      return createStringError(
          llvm::formatv("--tokens-per-second {0} is out of reach: the fastest formats give {1:f1}",
                        options.tokensPerSecond, 1e12 / double(least))
              .str());
    return createStringError("--bit-operations " + llvm::Twine(options.bitOperations) +
                             " is too few: the formats of fewest bits take " + llvm::Twine(least));
  }
  budget.work = allowed - cost->other();
  return Error::success();
}

uint64_t Quantization::storedBytes(const Tensor &tensor, const Candidate &candidate,
                                   OutputKind kind) const {
  if (kind == OutputKind::Gguf)
    return padded(candidate.bytes);
  if (kind == OutputKind::Module)
    return llvm::alignTo(candidate.bytes, moduleDataAlignment);
  // In panels, as programs carry it.
  Expected<format::PackedLayout> layout =
      format::PackedLayout::get(candidate.spec, tensor.rows / tensor.experts, tensor.columns);
  if (layout)
    return llvm::alignTo(uint64_t(layout->bytes()) * uint64_t(tensor.experts), 64);
  llvm::consumeError(layout.takeError());
  return padded(candidate.bytes);
}

/// A token's time by the cost model, or the analytic table where that counts something else; 0 if
/// unknown.
double Quantization::secondsOf(llvm::ArrayRef<uint32_t> choice) const {
  std::unique_ptr<CostModel> analytic;
  const CostModel *time = cost.get();
  if (!time || !time->isTime()) {
    if (Error e = createCostModel("time").moveInto(analytic)) {
      llvm::consumeError(std::move(e));
      return 0;
    }
    time = analytic.get();
  }
  uint64_t sum = time->other();
  for (auto [tensor, index] : llvm::zip(candidates->tensors, choice)) {
    if (!tensor.isProduct)
      continue;
    uint64_t own = 0;
    if (Error e =
            time->work(tensor.candidates[index].spec, tensor.usedRows, tensor.columns).moveInto(own)) {
      llvm::consumeError(std::move(e));
      return 0;
    }
    sum += own;
  }
  return double(sum) * 1e-12;
}
