//===- TokenizerData.h - A tokenizer as plain data --------------*- C++ -*-===//
//
// What an importer fills in and serialize() lays out as the blob that a compiled
// program maps: vocabulary, merges, and the steps before the model. No behaviour.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_RUNTIME_TOKENIZERDATA_H
#define QUERN_RUNTIME_TOKENIZERDATA_H

#include <cstdint>
#include <string>
#include <vector>

namespace quern::runtime {

enum class TokenizerKind : uint32_t {
  ByteBPE, ///< symbols are bytes, merged by rank (GPT-2 and its kin)
  CharBPE, ///< symbols are characters, merged by rank or score (SentencePiece BPE)
  Unigram, ///< the best-scoring segmentation (SentencePiece unigram)
};

/// As GGUF numbers them.
enum class TokenType : uint8_t {
  Normal = 1,
  Unknown = 2,
  Control = 3,     ///< never made from plain text; prints as nothing
  UserDefined = 4, ///< matched in the text before anything else
  Unused = 5,
  Byte = 6, ///< one byte of text that no other token covers
};

struct Token {
  std::string text; ///< bytes it stands for; with metaspace, U+2581 stands for a space
  double score = 0; ///< CharBPE without merges, Unigram
  TokenType type = TokenType::Normal;
  bool inModel =
      true; ///< merges or segmentation may produce it; else it only comes from AddedToken
};

/// A token that is found in the text before the model sees it.
struct AddedToken {
  int32_t id = 0;
  std::string text;
  bool special = false;    ///< only found where the caller allows special tokens
  bool normalized = false; ///< looked for after the normalizer, else before
  bool singleWord = false; ///< only between non-word characters
  bool lstrip = false;     ///< takes the white space before it along
  bool rstrip = false;
};

/// One step of a normalizer or a pre-tokenizer, applied in order.
struct TokenizerStep {
  enum Kind : uint8_t {
    // Normalizers: text to text.
    NFC,
    NFD,
    NFKC,
    NFKD,
    Lowercase,
    StripLeft,    ///< white space
    StripRight,   ///< white space
    Prepend,      ///< `a` in front of a text that is not empty
    Replace,      ///< every `a` (a literal) by `b`
    ReplaceRegex, ///< every match of `a` by `b`
    // Pre-tokenizers: pieces to smaller pieces.
    Split,        ///< at matches of the regular expression `a`
    SplitLiteral, ///< at occurrences of `a`
    PrependPiece, ///< `a` in front of every piece that does not begin with it
    PrependFirst, ///< the same, only at the very start of the text
    ReplaceChar,  ///< in pieces: every `a` by `b`
    ByteMap,      ///< bytes as the printable characters of GPT-2; later steps see those
  };
  enum Behavior : uint8_t { Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous };
  Kind kind = Split;
  Behavior behavior = Isolated;
  bool invert = false; ///< what the expression does not match is the match
  std::string a, b;
};

struct TokenizerData {
  TokenizerKind kind = TokenizerKind::ByteBPE;
  std::vector<Token> tokens;
  /// In order of rank: ids of left, right and result. CharBPE from scores leaves it empty.
  struct Merge {
    int32_t left, right, result;
  };
  std::vector<Merge> merges;
  bool mergeByScore = false;    ///< CharBPE: derive the merges from tokens and their scores
  bool ignoreMerges = false;    ///< a piece that is a token needs no merges
  bool byteFallback = false;    ///< unknown characters become byte tokens, where all exist
  bool fuseUnknown = false;     ///< consecutive unknown characters become one token
  bool metaspace = false;       ///< U+2581 in a token's text prints as a space
  bool stripFirstSpace = false; ///< decoding a whole text drops the space that encoding added
  std::vector<AddedToken> added;
  std::vector<TokenizerStep> normalizer, preTokenizer;
  int32_t bos = -1, eos = -1, unknown = -1, padding = -1;
  std::vector<int32_t> ends;           ///< ids that end a text or a turn (eos, eot, eom)
  std::vector<int32_t> prefix, suffix; ///< ids around a text with special tokens added

  /// The blob, or nothing and a message in `error`. Little endian, the same bytes everywhere.
  std::vector<uint8_t> serialize(std::string &error) const;
};

/// The symbols of the runtime that a program with this blob must refer to, so that the parts of the
/// tokenizer that not every model needs are linked: PCRE2, normalization tables.
std::vector<const char *> tokenizerParts(const std::vector<uint8_t> &blob);

} // namespace quern::runtime

#endif // QUERN_RUNTIME_TOKENIZERDATA_H
