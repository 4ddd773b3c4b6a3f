//===- Engines.cpp - All engines by name ----------------------------------===//
//
// A new engine is a file beside this one and a line here; docs/Quantizing.md shows one.
//
//===----------------------------------------------------------------------===//
#include "Allocation.h"

using namespace quern::quantize;
using llvm::createStringError;
using llvm::Expected;

static Expected<Assignment> exact(llvm::ArrayRef<Item> items, Limits limits) {
  return knapsack(items, limits);
}
[[maybe_unused]] static Expected<Assignment> program(llvm::ArrayRef<Item> items, Limits limits) {
  return integerProgram(items, limits);
}

static constexpr EngineInfo table[] = {
    {"knapsack", "exact, for one budget", exact},
    {"greedy", "each byte where it lowers the loss most", greedy},
    {"uniform", "one format for all", uniform},
    {"baq", "closed form of bits, rounded to formats", closedForm},
#ifdef QUERN_CBC
    {"ilp", "integer program (CBC), for two budgets, too", program},
#endif
};

llvm::ArrayRef<EngineInfo> quern::quantize::engines() { return table; }

Expected<Engine> quern::quantize::parseEngine(llvm::StringRef name) {
  std::string known;
  for (const EngineInfo &engine : table) {
    if (engine.name == name)
      return engine.run;
    known += (known.empty() ? "" : ", ") + engine.name.str();
  }
  return createStringError("unknown engine '" + name + "'; known: " + known);
}
