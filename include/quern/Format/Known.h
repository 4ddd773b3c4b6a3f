//===- Known.h - Formats known by name --------------------------*- C++ -*-===//
//
// The formats people refer to by a name (`q4_K`, `nf4`, `int8_channel`), each
// one line of lib/Format/Known.cpp. Adding a format of an existing code kind is
// adding a line there.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_FORMAT_KNOWN_H
#define QUERN_FORMAT_KNOWN_H

#include "quern/Format/Spec.h"

namespace quern::format {

struct KnownFormat {
  llvm::StringLiteral name;     ///< as in `#quern.q4_K` and `--format q4_K`
  llvm::StringLiteral spelling; ///< of the Spec
  llvm::StringLiteral summary;  ///< one phrase for `docs/Formats.md`
};

llvm::ArrayRef<KnownFormat> knownFormats();

/// The Spec of a known name; null if there is none. Case counts, except that GGUF's names may
/// be written as GGUF does (`Q4_K`, `BF16`).
const Spec *knownSpec(llvm::StringRef name);

/// The first known name of `spec`, or an empty string.
llvm::StringRef knownName(const Spec &spec);

} // namespace quern::format

#endif // QUERN_FORMAT_KNOWN_H
