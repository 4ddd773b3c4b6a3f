//===- Divide.cpp - What is searched with and what is held back ------------===//
//
// Windows of the calibration text that no choice is made with say what the choice is worth; a bound
// on the divergence there is met by bisection over bytes.
//
//===----------------------------------------------------------------------===//
#include "Quantization.h"

using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

Expected<std::pair<Windows, Windows>> quern::quantize::divideWindows(const Windows &all) {
  std::pair<Windows, Windows> out;
  for (Windows *part : {&out.first, &out.second}) {
    part->window = all.window;
    part->prefix = all.prefix;
  }
  size_t count = all.count(), held = count < 2 ? 0 : std::max<size_t>(1, count / 5);
  for (size_t i = 0; i < count; ++i) {
    // Spread evenly, the last window among them.
    Windows &part = (i + 1) * held / count > i * held / count ? out.second : out.first;
    llvm::append_range(part.tokens, all.at(i));
  }
  return out;
}

Error Quantization::findSmallest() {
  if (!heldBack)
    return createStringError("--max-kl needs a text of two windows or more: one is held back");
  uint64_t low = 0, high = 0;
  for (const Item &item : items()) {
    uint64_t least = UINT64_MAX, most = 0;
    for (const Option &option : item.options) {
      least = std::min(least, option.bytes);
      most = std::max(most, option.bytes);
    }
    low += least;
    high += most;
  }
  auto attempt = [&](uint64_t bytes) -> Expected<std::pair<Assignment, double>> {
    budget.bytes = bytes;
    Expected<Assignment> found = search();
    if (!found)
      return found.takeError();
    Expected<double> loss = measureAssignment(found->choice, *heldBack);
    if (!loss)
      return loss.takeError();
    return std::pair(std::move(*found), *loss);
  };
  auto best = attempt(high);
  if (!best)
    return best.takeError();
  if (best->second > options.maxKl)
    return createStringError("--max-kl " + std::to_string(options.maxKl) +
                             " is out of reach: the largest formats give " +
                             std::to_string(best->second));
  high = best->first.bytes;
  // To a thousandth of the bytes; what `best` holds always meets the bound.
  for (int step = 0; step < 16 && low + high / 1000 < high; ++step) {
    if ((outOfTime |= deadline.passed()))
      break;
    if (Error e = this->step("search", step / 16.0))
      return e;
    uint64_t middle = low + (high - low) / 2;
    auto tried = attempt(middle);
    if (!tried)
      return tried.takeError();
    if (tried->second <= options.maxKl) {
      best = std::move(tried);
      high = best->first.bytes;
    } else {
      low = middle;
    }
  }
  budget.bytes = best->first.bytes;
  assignment = std::move(best->first);
  return Error::success();
}
