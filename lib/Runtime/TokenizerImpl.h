//===- TokenizerImpl.h - A loaded tokenizer ---------------------*- C++ -*-===//
//
// Typed views of the blob's sections, and the parts of encoding: finding added
// tokens, normalizing, cutting into pieces, and the model on one piece.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_RUNTIME_TOKENIZERIMPL_H
#define QUERN_RUNTIME_TOKENIZERIMPL_H

#include "TokenizerBlob.h"
#include "TokenizerPattern.h"
#include "quern/Runtime/Tokenizer.h"

namespace quern::runtime {

/// Whether a step needs Unicode's normalization tables.
inline bool isNormalization(TokenizerStep::Kind kind) { return kind <= TokenizerStep::Lowercase; }

/// A half-open byte range of the text being cut.
struct Piece {
  size_t begin, end;
};

/// Working memory of one encode call.
struct EncodeState {
  Matcher matcher;
  std::vector<int32_t> *out = nullptr;
  std::string error;

  struct Symbol {
    uint32_t id; ///< noId: a character without a symbol
    uint32_t size;
    size_t begin;
    int64_t previous, next; ///< indices, -1 at the ends
  };
  std::vector<Symbol> symbols;
  struct Candidate {
    uint32_t rank, result;
    size_t at;
    bool operator<(const Candidate &o) const { // for a max-heap: the lowest rank, leftmost first
      return rank != o.rank ? rank > o.rank : at > o.at;
    }
  };
  std::vector<Candidate> heap;
  struct Node {
    double score;
    size_t from;
    uint32_t id;
    bool set;
  };
  std::vector<Node> lattice;
  std::vector<Piece> pieces, nextPieces;
};

struct Tokenizer::Impl {
  blob::Header header;
  const uint32_t *textEnds = nullptr;
  std::string_view text;
  const uint8_t *attributes = nullptr;
  const double *scores = nullptr;
  const uint32_t *textTable = nullptr;
  uint64_t textSlots = 0;
  const blob::PairEntry *pairTable = nullptr;
  uint64_t pairSlots = 0;
  /// What the three point to where the blob is Compact.
  std::vector<uint32_t> ownEnds, ownTexts;
  std::vector<blob::PairEntry> ownPairs;
  std::string ownText;
  const uint32_t *byteIds = nullptr;
  const blob::AddedEntry *added = nullptr;
  std::string_view addedText;
  const int32_t *prefix = nullptr, *suffix = nullptr, *ends = nullptr;
  size_t prefixCount = 0, suffixCount = 0, endsCount = 0;
  const uint8_t *cuts = nullptr;
  bool cutAtMetaspace = false; ///< some byte may be followed by a cut

  struct Step {
    TokenizerStep::Kind kind;
    TokenizerStep::Behavior behavior;
    bool invert;
    std::string_view a, b;
    Pattern pattern;
    bool digits = false, digitRuns = false; ///< the expression is \p{N} or \p{N}+
  };
  std::vector<Step> normalizer, preTokenizer;
  bool mapped = false; ///< pieces reach the model in GPT-2's printable characters

  /// The two lists of added tokens, each with the first bytes that occur in it.
  struct AddedList {
    const blob::AddedEntry *entries = nullptr;
    size_t count = 0;
    bool first[256] = {};
  };
  AddedList rawAdded, normalizedAdded;
  Pattern word; ///< \w, if a token asks for word boundaries

  /// Checks the blob and sets the views up; an empty string, or what is wrong.
  std::string load(const uint8_t *data, size_t size);

  bool has(blob::Flag flag) const { return header.flags & flag; }
  TokenizerKind kind() const { return TokenizerKind(header.kind); }
  std::string_view symbolText(uint32_t symbol) const {
    uint32_t begin = symbol ? textEnds[symbol - 1] : 0;
    return text.substr(begin, textEnds[symbol] - begin);
  }
  std::string_view addedTextOf(const blob::AddedEntry &e) const {
    return addedText.substr(e.begin, e.size);
  }
  /// The symbol with this text, or noId.
  uint32_t symbol(std::string_view s) const;
  const blob::PairEntry *pair(uint32_t left, uint32_t right) const;

  // Tokenizer.cpp: from text to pieces.
  struct AddedMatch {
    uint32_t id;
    size_t begin, end; ///< including white space it takes along
    size_t next;       ///< where the search goes on: other tokens may lie in that white space
  };
  template <typename Allowed>
  bool findAdded(const AddedList &list, std::string_view text, size_t from, size_t taken,
                 const Allowed &special, AddedMatch &match, EncodeState &state) const;

  // TokenizerSplit.cpp
  /// `continued`: the text goes on after bytes that are no UTF-8, so nothing is put in front.
  std::string normalize(std::string_view text, bool continued, EncodeState &state) const;
  /// Cuts well-formed text and feeds the pieces to the model.
  void tokenizeText(std::string_view text, bool first, bool continued, EncodeState &state) const;

  // TokenizerModel.cpp
  void tokenizePiece(std::string_view piece, EncodeState &state, bool useSingles = true) const;
  void tokenizeBytes(std::string_view bytes, EncodeState &state) const; ///< not UTF-8
private:
  struct Sections;
  std::string loadTables(const Sections &sections);
  std::string expandTables(const Sections &sections);
  void merge(std::string_view piece, EncodeState &state) const;
  void viterbi(std::string_view piece, EncodeState &state) const;
  void emitUnknown(std::string_view characters, bool &previousUnknown, EncodeState &state) const;
};

} // namespace quern::runtime

#endif // QUERN_RUNTIME_TOKENIZERIMPL_H
