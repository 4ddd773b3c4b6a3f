//===- Printable.cpp - Text of files, safe for a terminal -----------------===//
//
// One pass; text without control characters is returned as it is.
//
//===----------------------------------------------------------------------===//
#include "quern/Support/Printable.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"

using namespace llvm;

namespace quern {

std::string printable(StringRef text) {
  std::string valid = json::isUTF8(text) ? text.str() : json::fixUTF8(text), out;
  for (size_t i = 0; i < valid.size(); ++i) {
    unsigned char c = valid[i];
    // U+0080 to U+009F are two bytes, of which the first is C2.
    bool wide = c == 0xC2 && i + 1 < valid.size() && (unsigned char)(valid[i + 1]) < 0xA0;
    if (c == '\n')
      out += "\\n";
    else if (c == '\t')
      out += "\\t";
    else if (wide)
      out += formatv("\\u{0:x-4}", unsigned((unsigned char)(valid[++i]))).str();
    else if (c < 0x20 || c == 0x7F)
      out += formatv("\\u{0:x-4}", unsigned(c)).str();
    else
      out += char(c);
  }
  return out;
}

} // namespace quern
