//===- TokenizerBlob.h - The layout of a serialized tokenizer ---*- C++ -*-===//
//
// A header, then sections of plain little-endian arrays, each 8-byte aligned.
// Everything a run needs is a table here; only the tables of a small vocabulary are built at load.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_RUNTIME_TOKENIZERBLOB_H
#define QUERN_RUNTIME_TOKENIZERBLOB_H

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace quern::runtime::blob {

constexpr char magic[8] = {'Q', 'R', 'N', 'T', 'O', 'K', '0', '4'};
constexpr uint32_t noId = UINT32_MAX;

enum Flag : uint32_t {
  IgnoreMerges = 1,
  ByteFallback = 2,
  FuseUnknown = 4,
  Metaspace = 8,
  StripFirstSpace = 16,
  NeedsPatterns = 32,      ///< some expression has no program: PCRE2 must be linked
  NeedsNormalization = 64, ///< so must the tables of Unicode's normalization forms
  /// TextEnds holds u8 lengths, TextTable nothing and PairTable SmallPairs in the order of their
  /// ranks: what a program for a small model would mostly consist of is built in microseconds.
  Compact = 128,
  /// With Compact: the pair of rank i makes the symbol header.firstJoined + i, as training leaves
  /// merges. PairTable is then u8[4][pairs]: low and high bytes of all left ids, the same of right
  /// ids (alike bytes side by side pack well); what pairs make is left out of Text and TextEnds.
  Joined = 256,
};

/// Symbols are the vocabulary, then characters that are no token but occur in merges.
enum SectionId {
  TextEnds,   ///< u32[symbols]: where each symbol's text ends in Text
  Text,       ///< bytes
  Attributes, ///< u8[symbols]: token type, `single` bit
  Scores,     ///< f64[vocab], Unigram only
  TextTable,  ///< u32[power of two]: symbol by text, noId where empty
  PairTable,  ///< PairEntry[power of two], left = noId where empty
  ByteIds,    ///< u32[256]: the symbol of a byte
  Added,      ///< AddedEntry[], sorted by text; those looked for before the normalizer first
  AddedText,  ///< bytes
  Steps,      ///< StepEntry[], normalizer first
  StepText,   ///< bytes
  Programs,   ///< bytes: serialized PatternPrograms
  Prefix,     ///< i32[]
  Suffix,     ///< i32[]
  Ends,       ///< i32[]
  Cuts,       ///< u8[256]: 1 where U+2581 after this byte may begin a new piece
  SectionCount
};

struct Section {
  uint64_t offset, size;
};

struct Header {
  char magic[8];
  uint32_t kind, flags;
  uint32_t vocab, symbols;
  uint32_t rawAdded, normalizedAdded;
  uint32_t normalizerSteps, preTokenizerSteps;
  int32_t bos, eos, unknown, padding;
  uint32_t longestText; ///< of a token the model may produce
  uint32_t wordProgram; ///< size of the program of a word's character, the first in Programs, or 0
  uint32_t firstJoined;
  uint32_t reserved;
  double unknownScore;
  Section sections[SectionCount];
};

constexpr uint8_t typeMask = 15;
constexpr uint8_t single = 16;   ///< a piece with exactly this text is exactly this token
constexpr uint8_t findable = 32; ///< the symbol that the token table gives for its text

struct PairEntry {
  uint32_t left, right, rank, result;
};

struct SmallPair {
  uint16_t left, right, rank, result;
};
constexpr uint32_t compactSymbols = 1 << 16; ///< and as many pairs: Compact is possible up to here

enum AddedFlag : uint32_t { Special = 1, SingleWord = 2, LStrip = 4, RStrip = 8 };
struct AddedEntry {
  uint32_t id, flags, begin, size;
};

struct StepEntry {
  uint8_t kind, behavior, invert, reserved;
  uint32_t a, aSize, b, bSize;
  uint32_t program,
      programSize; ///< in Programs; no bytes where `a` is no expression or only PCRE2's
};

/// The hash of both tables' keys. Part of the format: a change is a new magic.
inline uint64_t mix(uint64_t h) {
  h ^= h >> 32;
  h *= 0xD6E8FEB86659FD93ull;
  h ^= h >> 32;
  return h;
}
inline uint64_t hashText(std::string_view s) {
  uint64_t h = 0x9E3779B97F4A7C15ull ^ s.size();
  size_t n = s.size();
  const char *p = s.data();
  uint64_t v;
  for (; n >= 8; n -= 8, p += 8) {
    memcpy(&v, p, 8);
    h = mix(h ^ v) * 0x9FB21C651E98DF25ull;
  }
  v = 0;
  memcpy(&v, p, n);
  return mix(h ^ v);
}
inline uint64_t hashPair(uint32_t left, uint32_t right) {
  return mix((uint64_t(left) << 32 | right) * 0x9FB21C651E98DF25ull);
}

/// Both tables use open addressing, are at most three quarters full and a power of two large.
inline uint64_t tableSize(uint64_t entries) {
  uint64_t size = 1;
  while (size * 3 / 4 < entries + 1)
    size *= 2;
  return size;
}
template <typename Table> void insertText(Table &table, std::string_view text, uint32_t id) {
  uint64_t slot = hashText(text) & (table.size() - 1);
  while (table[slot] != noId)
    slot = (slot + 1) & (table.size() - 1);
  table[slot] = id;
}
template <typename Table> void insertPair(Table &table, const PairEntry &e) {
  uint64_t slot = hashPair(e.left, e.right) & (table.size() - 1);
  while (table[slot].left != noId)
    slot = (slot + 1) & (table.size() - 1);
  table[slot] = e;
}

} // namespace quern::runtime::blob

#endif // QUERN_RUNTIME_TOKENIZERBLOB_H
