//===- Printable.h - Text of files, safe for a terminal ---------*- C++ -*-===//
//
// Names and values out of model files end up in messages and listings; what would
// end the line or steer a terminal is spelled out.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_SUPPORT_PRINTABLE_H
#define QUERN_SUPPORT_PRINTABLE_H

#include "llvm/ADT/StringRef.h"
#include <string>

namespace quern {

/// `text` with control characters (C0, DEL, C1) as `\n`, `\t` or `\u001b`, and bytes that are not
/// UTF-8 replaced.
std::string printable(llvm::StringRef text);

} // namespace quern

#endif // QUERN_SUPPORT_PRINTABLE_H
