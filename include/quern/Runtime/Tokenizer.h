//===- Tokenizer.h - Text to token ids and back -----------------*- C++ -*-===//
//
// Works straight on the blob that TokenizerData::serialize wrote: its tables are
// used where they lie, so loading costs a check and a few compiled patterns.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_RUNTIME_TOKENIZER_H
#define QUERN_RUNTIME_TOKENIZER_H

#include "quern/Runtime/TokenizerData.h"
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace quern::runtime {

/// A stretch of text. Special tokens are only recognised where `markup` is set, so that
/// what a person types cannot pose as the markup around it.
struct TextSegment {
  std::string_view text;
  bool markup = false;
};

/// Immutable after loading; encode and decode may run in several threads at once.
class Tokenizer {
public:
  /// `data` must outlive the tokenizer and be 8-byte aligned. Null and a message on a blob that
  /// is damaged in any way.
  static std::unique_ptr<Tokenizer> load(const void *data, size_t size, std::string &error);
  ~Tokenizer();

  /// Token ids of `text`. Any bytes are accepted. If a pattern's match limit is reached (a hostile
  /// pattern), the ids found so far are returned and `error`, if given, is set.
  std::vector<int32_t> encode(std::string_view text, bool parseSpecial = false,
                              std::string *error = nullptr) const;
  /// The same for one text made of segments.
  std::vector<int32_t> encode(const std::vector<TextSegment> &segments,
                              std::string *error = nullptr) const;

  /// The bytes of one token; control tokens have none unless `special`. Unknown ids have none.
  std::string decode(int32_t id, bool special = false) const;
  /// The text of a whole sequence, without the space the encoder may have put in front.
  std::string decode(const std::vector<int32_t> &ids, bool special = false) const;

  /// The token whose text this is (markup as written), or -1.
  int32_t find(std::string_view text) const;
  size_t size() const; ///< number of ids
  TokenType type(int32_t id) const;
  int32_t bos() const;
  int32_t eos() const;
  bool isEnd(int32_t id) const;        ///< ends a text or a turn
  std::vector<int32_t> prefix() const; ///< ids in front of a text (often BOS)
  std::vector<int32_t> suffix() const;
  bool stripsFirstSpace() const; ///< see TokenizerData::stripFirstSpace

  struct Impl; ///< private to lib/Runtime

private:
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl;
};

/// Turns a stream of ids into text, holding back bytes until a character is complete.
class StreamDecoder {
public:
  /// `atStart`: the first token opens the text, so a space the encoder put there is dropped.
  StreamDecoder(const Tokenizer &tokenizer, bool atStart, bool special = false)
      : tokenizer(tokenizer), atStart(atStart), special(special) {}
  /// The characters that `id` completes. Bytes that cannot begin or continue one are passed on.
  std::string push(int32_t id);
  /// What is left at the end, complete or not.
  std::string flush();

private:
  const Tokenizer &tokenizer;
  bool atStart, special;
  std::string pending;
};

/// A byte-level token, written in GPT-2's printable characters, as bytes; false if it holds another
/// character.
bool bytesOfPrintable(std::string_view token, std::string &bytes);

/// The inside of a character class for the word characters of tokenizer.json's own steps (which
/// are not those of its regular expressions).
const char *tokenizerWordClass();

} // namespace quern::runtime

#endif // QUERN_RUNTIME_TOKENIZER_H
