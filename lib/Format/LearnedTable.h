//===- LearnedTable.h - Tables fitted to a tensor ---------------*- C++ -*-===//
//
// The entries of a learned table, by k-means over what the codes will have to express.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_FORMAT_LEARNEDTABLE_H
#define QUERN_LIB_FORMAT_LEARNEDTABLE_H

#include "quern/Format/Components.h"

namespace quern::format {

/// The 2^indexBits x dim entries, rounded to the table's number, for the values of a whole matrix
/// (out.rows x out.cols) under the levels of `spec`. The same values give the same table. An entry
/// may come out infinite where the table's number does not reach the values.
std::vector<float> learnTable(const Spec &spec, llvm::ArrayRef<float> values,
                              const Components &out);

} // namespace quern::format

#endif // QUERN_LIB_FORMAT_LEARNEDTABLE_H
