//===- Allocation.h - What the engines share ---------------------*- C++ -*-===//
//
// Private to lib/Quantize/Allocation.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_ALLOCATION_ALLOCATION_H
#define QUERN_LIB_QUANTIZE_ALLOCATION_ALLOCATION_H

#include "quern/Quantize/Allocation.h"

namespace quern::quantize {

/// Index of the option that takes least of the budgeted resource (bytes unless only work is), among
/// equals the cheapest.
uint32_t smallest(const Item &item, Limits limits);

/// Checks items and budgets; every item with its smallest option. With two budgets it may exceed
/// that of work.
llvm::Expected<Assignment> smallestAssignment(llvm::ArrayRef<Item> items, Limits limits);

/// Takes the steps of best ratio that still fit, until none does.
Assignment improve(llvm::ArrayRef<Item> items, Limits limits, Assignment now);

} // namespace quern::quantize

#endif // QUERN_LIB_QUANTIZE_ALLOCATION_ALLOCATION_H
