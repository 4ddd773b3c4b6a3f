//===- Tables.h - Codebooks known by name -----------------------*- C++ -*-===//
//
// The codebooks a format may name (`table<nf4>`): constants that published
// formats fix, such as NF4's quantiles and the lattices of GGUF's IQ types.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_FORMAT_TABLES_H
#define QUERN_FORMAT_TABLES_H

#include "quern/Format/Spec.h"

namespace quern::format {

/// A Table with `name` set, or null if there is none of that name.
const Table *knownTable(llvm::StringRef name);

/// Every known table's name, in a fixed order.
std::vector<llvm::StringRef> knownTableNames();

} // namespace quern::format

#endif // QUERN_FORMAT_TABLES_H
