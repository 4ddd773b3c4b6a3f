//===- Allocation.h - Which tensor gets which format ------------*- C++ -*-===//
//
// A multiple-choice knapsack: one option per item, so that the cost is least and the bytes stay
// within a budget. Items are tensors, options are formats, the cost is the expected loss; nothing
// here depends on what it is. Engines share one signature, so that any can be swapped for another.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_QUANTIZE_ALLOCATION_H
#define QUERN_QUANTIZE_ALLOCATION_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <string>
#include <vector>

namespace quern::quantize {

struct Option {
  std::string format; ///< for messages
  uint64_t bytes = 0; ///< stored
  double cost = 0;    ///< additive; not negative, finite
};

struct Item {
  std::string name; ///< for messages
  std::vector<Option> options;
};

struct Assignment {
  std::vector<uint32_t> choice; ///< by item: index of the option
  uint64_t bytes = 0;
  double cost = 0;
};

/// Adds up a choice.
Assignment evaluate(llvm::ArrayRef<Item> items, std::vector<uint32_t> choice);

/// The least cost within `budget` bytes, exactly: dynamic programming over the bytes beyond the
/// smallest assignment, in units of their greatest common divisor. Among equals, the fewest bytes.
/// Fails if not even the smallest options fit (the error names the bytes they take) or a
/// cost is not usable. A table of more than `maxCells` cells is refused.
llvm::Expected<Assignment> knapsack(llvm::ArrayRef<Item> items, uint64_t budget,
                                    uint64_t maxCells = uint64_t(1) << 30);

/// Each byte goes where it lowers the cost most: repeatedly the step of best ratio that fits.
llvm::Expected<Assignment> greedy(llvm::ArrayRef<Item> items, uint64_t budget);

/// The best assignment in which all items have the option of the same name, where they have it,
/// and else their smallest larger one.
llvm::Expected<Assignment> uniform(llvm::ArrayRef<Item> items, uint64_t budget);

using Engine = llvm::Expected<Assignment> (*)(llvm::ArrayRef<Item>, uint64_t);
/// `knapsack`, `greedy`, `uniform`.
llvm::Expected<Engine> parseEngine(llvm::StringRef name);

} // namespace quern::quantize

#endif // QUERN_QUANTIZE_ALLOCATION_H
