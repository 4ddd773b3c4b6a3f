//===- TokenizerUnicode.h - UTF-8 and Unicode data --------------*- C++ -*-===//
//
// Decoding, encoding and checking of UTF-8, and the generated tables behind the
// normalization forms.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_RUNTIME_TOKENIZERUNICODE_H
#define QUERN_RUNTIME_TOKENIZERUNICODE_H

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace quern::runtime::unicode {

// Generated data (TokenizerUnicodeData.cpp), each table sorted by its first field.
struct Mapping {
  uint32_t point;
  uint16_t at; ///< index into pool
  uint16_t count;
};
struct ClassRange {
  uint32_t first, last;
  uint8_t combiningClass;
};
struct Pair {
  uint32_t first, second, composite;
};
struct Range {
  uint32_t first, last;
};
extern const uint32_t pool[];
extern const Mapping canonicalTable[], compatibleTable[], lowerTable[];
extern const ClassRange classTable[];
extern const Pair pairTable[];
extern const Range newLetters[], newNumbers[], newPunctuation[], newMarks[], newDigits[];
extern const size_t poolCount, canonicalTableCount, compatibleTableCount, lowerTableCount,
    classTableCount, pairTableCount, newLettersCount, newNumbersCount, newPunctuationCount,
    newMarksCount, newDigitsCount;

/// The length of the well-formed character at the start of `text`, 0 if there is none.
inline size_t characterLength(std::string_view text) {
  if (text.empty())
    return 0;
  auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  uint8_t lead = byte(0);
  if (lead < 0x80)
    return 1;
  size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length)
    return 0;
  // Overlong forms, surrogates and values past U+10FFFF show in the second byte.
  uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (byte(1) < low || byte(1) > high)
    return 0;
  for (size_t i = 2; i < length; ++i)
    if ((byte(i) & 0xC0) != 0x80)
      return 0;
  return length;
}

/// Decodes a character known to be well formed and of this length.
inline uint32_t decodeCharacter(const char *s, size_t length) {
  auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(s[i])); };
  switch (length) {
  case 1:
    return byte(0);
  case 2:
    return (byte(0) & 0x1F) << 6 | (byte(1) & 0x3F);
  case 3:
    return (byte(0) & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
  default:
    return (byte(0) & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 |
           (byte(3) & 0x3F);
  }
}

inline void appendCharacter(std::string &out, uint32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | c >> 18);
    out += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

/// Length of the longest well-formed prefix.
size_t validPrefix(std::string_view text);
bool isWhiteSpace(uint32_t c); ///< the White_Space property

enum class Form { NFC, NFD, NFKC, NFKD };
/// What needs large tables; only programs whose tokenizer normalizes refer to it by name and so are
/// linked with it.
struct Normalization {
  std::string (*normalize)(std::string_view text, Form form); ///< of well-formed UTF-8
  std::string (*lowercase)(std::string_view text);
};
extern "C" const Normalization quern_normalization;
/// Null where it was not linked.
const Normalization *normalization();

/// The character that GPT-2's vocabularies write for a byte, and back (-1: none).
uint32_t printableOfByte(uint8_t byte);
int byteOfPrintable(uint32_t c);

} // namespace quern::runtime::unicode

#endif // QUERN_RUNTIME_TOKENIZERUNICODE_H
