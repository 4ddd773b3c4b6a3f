//===- Allocation.h - What the engines share ---------------------*- C++ -*-===//
//
// Private to lib/Quantize/Allocation.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_ALLOCATION_ALLOCATION_H
#define QUERN_LIB_QUANTIZE_ALLOCATION_ALLOCATION_H

#include "quern/Quantize/Allocation.h"

namespace quern::quantize {

/// Checks items and budget; every item with its smallest option.
llvm::Expected<Assignment> smallestAssignment(llvm::ArrayRef<Item> items, uint64_t budget);

} // namespace quern::quantize

#endif // QUERN_LIB_QUANTIZE_ALLOCATION_ALLOCATION_H
