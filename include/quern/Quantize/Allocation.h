//===- Allocation.h - Which tensor gets which format ------------*- C++ -*-===//
//
// Multiple choice: one option per item, so that the cost is least and what the options take stays
// within the budgets. Items are tensors, options are formats, the cost is the expected loss;
// nothing here depends on what it is. Engines share one signature, so that any can be swapped for
// another: each is a file of lib/Quantize/Allocation and a line in the table of Engines.cpp.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_QUANTIZE_ALLOCATION_H
#define QUERN_QUANTIZE_ALLOCATION_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"
#include <string>
#include <vector>

namespace quern::quantize {

struct Option {
  std::string format; ///< for messages, and what `uniform` and ties go by
  uint64_t bytes = 0; ///< stored
  double cost = 0;    ///< additive; not negative, finite
  uint64_t work = 0; ///< a second resource: picoseconds, bit operations, whatever the caller counts
  int32_t kind = -1; ///< options of one kind share what allocateKinds() charges once; -1: nothing
};

struct Item {
  std::string name; ///< for messages
  std::vector<Option> options;
  uint64_t elements = 0; ///< weights in it, for engines that think in bits a weight; 0: all alike
};

/// What an assignment may take, at most.
struct Limits {
  static constexpr uint64_t none = UINT64_MAX;
  uint64_t bytes = none, work = none;
  Limits(uint64_t bytes = none, uint64_t work = none) : bytes(bytes), work(work) {}
};

struct Assignment {
  std::vector<uint32_t> choice; ///< by item: index of the option
  uint64_t bytes = 0;
  double cost = 0;
  uint64_t work = 0;
  double bound = -1; ///< no assignment costs less than this; negative: the engine proves nothing

  bool within(Limits limits) const { return bytes <= limits.bytes && work <= limits.work; }
};

/// Adds up a choice.
Assignment evaluate(llvm::ArrayRef<Item> items, std::vector<uint32_t> choice);

/// The least cost within one budget, exactly: dynamic programming over what goes beyond the
/// smallest assignment, in units of the greatest common divisor. Among equals, the fewest bytes. A
/// budget of work is cut into 65536 units, each option's work rounded up to them. Fails if not even
/// the smallest options fit (the error names what they take), a cost is not usable, or both budgets
/// are given. A table of more than `maxCells` cells is refused.
llvm::Expected<Assignment> knapsack(llvm::ArrayRef<Item> items, Limits limits,
                                    uint64_t maxCells = uint64_t(1) << 30);

/// Each byte goes where it lowers the cost most: repeatedly the step of best ratio that fits. Where
/// there are two budgets, a step takes the larger of its shares of them.
llvm::Expected<Assignment> greedy(llvm::ArrayRef<Item> items, Limits limits);

/// The best assignment in which all items have the option of the same name, where they have it,
/// and else their smallest one.
llvm::Expected<Assignment> uniform(llvm::ArrayRef<Item> items, Limits limits);

/// BAQ's closed form between items: with a cost of c 4^-R at R bits a weight, the cost of all is
/// least where R = mean + log2(c / geometric mean of c) / 2. c is fitted to an item's options; each
/// takes its largest option of at most R bits, the mean being raised until no more fits, and what
/// is left goes where it lowers the cost most. Budgets of bytes only.
llvm::Expected<Assignment> closedForm(llvm::ArrayRef<Item> items, Limits limits);

/// An integer program, solved by CBC's branch and cut with at most `maxNodes` nodes, never a time
/// limit, so that the answer depends on the input alone. Takes both budgets; states a bound. Fails
/// where the build has no CBC.
llvm::Expected<Assignment> integerProgram(llvm::ArrayRef<Item> items, Limits limits,
                                          unsigned maxNodes = 20000);

/// The bits of BAQ's closed form: R_j = mean + log2(c_j / geo) / 2, geo the geometric mean of the
/// losses c_j, weighted by `counts` (empty: all alike). Losses of 0 count as the smallest positive
/// one.
std::vector<double> closedFormBits(llvm::ArrayRef<double> losses, llvm::ArrayRef<uint64_t> counts,
                                   double meanBits);

using Engine = llvm::Expected<Assignment> (*)(llvm::ArrayRef<Item>, Limits);
struct EngineInfo {
  llvm::StringLiteral name, summary;
  Engine run;
};
/// The engine's choice where every kind of options that any item has takes `bytesOfKind` once (the
/// code of a kernel): those bytes and the options' stay within the budget of bytes. Which kinds are
/// worth theirs is a heuristic. Assignment::bytes are those of the options.
llvm::Expected<Assignment> allocateKinds(llvm::ArrayRef<Item> items, Limits limits,
                                         uint64_t bytesOfKind, Engine engine);
/// How many kinds a choice has.
size_t countKinds(llvm::ArrayRef<Item> items, llvm::ArrayRef<uint32_t> choice);

/// All engines of this build.
llvm::ArrayRef<EngineInfo> engines();
llvm::Expected<Engine> parseEngine(llvm::StringRef name);

/// Items that must have options of the same name, put together: an item of the sums of what they
/// share. `groups`: the number of each item's group. Fails where a group shares no option.
struct Ties {
  std::vector<Item> items;       ///< one for each group
  std::vector<uint32_t> groupOf; ///< by original item
  /// by original item and option of its group's item: the index of its own option
  std::vector<std::vector<uint32_t>> optionOf;
  /// The choice for the original items.
  std::vector<uint32_t> expand(llvm::ArrayRef<uint32_t> choice) const;
};
llvm::Expected<Ties> tieItems(llvm::ArrayRef<Item> items, llvm::ArrayRef<uint32_t> groups);

/// What a report of quantize() says was chosen, as `quern allocate` writes it: tensors by name and
/// their formats, and by what means.
llvm::json::Object allocationOf(const llvm::json::Object &report);
/// Tensors and formats of such a file. Fails, naming it, if it is none.
llvm::Expected<std::vector<std::pair<std::string, std::string>>>
readAllocation(llvm::StringRef path);

} // namespace quern::quantize

#endif // QUERN_QUANTIZE_ALLOCATION_H
