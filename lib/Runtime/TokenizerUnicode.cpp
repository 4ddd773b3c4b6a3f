//===- TokenizerUnicode.cpp - UTF-8 and characters ------------------------===//
//
// What every tokenizer needs: well-formed prefixes, white space, and the printable
// characters of GPT-2's vocabularies.
//
//===----------------------------------------------------------------------===//
#include "TokenizerUnicode.h"
#include <algorithm>

namespace quern::runtime::unicode {

// A reference here takes no object out of an archive.
extern "C" [[gnu::weak]] const Normalization quern_normalization;

const Normalization *normalization() { return &quern_normalization; }

size_t validPrefix(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    if (static_cast<uint8_t>(text[i]) < 0x80) {
      ++i;
      continue;
    }
    size_t n = characterLength(text.substr(i));
    if (!n)
      break;
    i += n;
  }
  return i;
}

bool isWhiteSpace(uint32_t c) {
  return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

namespace {
struct ByteAlphabet {
  uint32_t ofByte[256];
  int16_t ofPrintable[512];
  ByteAlphabet() {
    std::fill(std::begin(ofPrintable), std::end(ofPrintable), int16_t(-1));
    uint32_t next = 256; // bytes that do not print are numbered from U+0100 on
    for (uint32_t b = 0; b < 256; ++b) {
      bool prints = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD);
      ofByte[b] = prints ? b : next++;
      ofPrintable[ofByte[b]] = static_cast<int16_t>(b);
    }
  }
};
const ByteAlphabet &alphabet() {
  static const ByteAlphabet instance;
  return instance;
}
} // namespace

uint32_t printableOfByte(uint8_t byte) { return alphabet().ofByte[byte]; }
int byteOfPrintable(uint32_t c) { return c < 512 ? alphabet().ofPrintable[c] : -1; }

} // namespace quern::runtime::unicode
