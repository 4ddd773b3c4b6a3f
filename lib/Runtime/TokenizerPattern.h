//===- TokenizerPattern.h - Expressions of tokenizers -----------*- C++ -*-===//
//
// A pattern is a small program for the matcher here, made by the compiler, so that
// ordinary tokenizers need no regular expressions' library; PCRE2 where it has to be.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_RUNTIME_TOKENIZERPATTERN_H
#define QUERN_RUNTIME_TOKENIZERPATTERN_H

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace quern::runtime {

/// Rewrites an Oniguruma expression for PCRE2: what \s, \w, \h, \p{L} mean differs. False and a
/// message where PCRE2 has no equal (nested classes, intersections). Part of the engine.
bool translatePattern(std::string_view pattern, std::string &out, std::string &error);

/// What Rust's regular expressions call \w, as the inside of a class: word boundaries of added
/// tokens and the pre-tokenizer Whitespace follow those, not Oniguruma.
extern const char *const rustWord;

enum class MatchResult { Found, None, Failed };

/// PCRE2, which only programs carry whose tokenizer has an expression that no PatternProgram says:
/// the object that describes the program then refers to it by name.
struct PatternEngine {
  /// Null and a message if the expression is wrong.
  void *(*compile)(std::string_view pattern, std::string &error);
  void (*free)(void *code);
  /// As Matcher::find; `memory` is null at first, and kept for the next call.
  MatchResult (*find)(const void *code, void *&memory, std::string_view text, size_t from,
                      size_t &begin, size_t &end);
  void (*freeMemory)(void *memory);
};
extern "C" const PatternEngine quern_pattern_engine;
/// Null where it was not linked.
const PatternEngine *patternEngine();

/// Instructions for a backtracking matcher. Relative targets; a body ends with Match.
struct PatternProgram {
  enum Op : uint8_t {
    Match,
    Class,     ///< one character of class a
    Loop,      ///< min to max of class a, as many as possible; backs off one by one
    KeepLoop,  ///< the same, but keeps what it took
    Split,     ///< at a; where that fails, at b
    Jump,      ///< at a
    Ahead,     ///< what follows must match the body, which ends before a; goes on there
    NotAhead,  ///< must not match
    Atomic,    ///< takes what the body matches first, and no other way
    LineBegin, ///< at the start or after a line feed
    LineEnd,   ///< at the end or before a line feed
    OpCount
  };
  struct Instruction {
    Op op;
    int32_t a = 0, b = 0;
    uint32_t min = 0, max = 0;
  };
  /// A set of characters: in it from each even boundary to before the next one.
  struct CharacterClass {
    std::vector<uint32_t> boundaries;
    uint64_t ascii[2] = {};
    void setAscii();
    bool contains(uint32_t c) const;
  };
  static constexpr uint32_t maxInstructions = 4096, maxClasses = 256, noMaximum = UINT32_MAX;

  std::vector<Instruction> code;
  std::vector<CharacterClass> classes;

  /// As bytes, all numbers of variable length; parse() checks everything that matching trusts.
  std::vector<uint8_t> serialize() const;
  bool parse(const uint8_t *data, size_t size);
};

/// Makes a program of an expression. False if it has something (look-behind, references, word
/// boundaries) that only PCRE2 can match, or is wrong. In the compiler only.
bool compilePattern(std::string_view pattern, PatternProgram &out);

class Pattern {
public:
  Pattern() = default;
  Pattern(Pattern &&other) noexcept : program(std::move(other.program)), code(other.code) {
    other.code = nullptr;
  }
  Pattern &operator=(Pattern &&) = delete;
  ~Pattern();
  /// Takes a serialized program; false if it is damaged.
  bool load(const uint8_t *data, size_t size) { return program.parse(data, size); }
  /// Compiles with PCRE2; false and a message if the expression is wrong, or PCRE2 is not here.
  bool compile(std::string_view pattern, std::string &error);

private:
  friend class Matcher;
  PatternProgram program;
  void *code = nullptr; ///< PCRE2's, instead of a program
};

/// The memory matching needs; one per thread of work.
class Matcher {
public:
  Matcher() = default;
  ~Matcher();
  Matcher(const Matcher &) = delete;
  /// The first match in `text` at or after `from`, into [begin, end). The text must be well-formed
  /// UTF-8. Failed: a limit was hit.
  MatchResult find(const Pattern &pattern, std::string_view text, size_t from, size_t &begin,
                   size_t &end);

private:
  MatchResult run(const PatternProgram &program, size_t at, size_t pc, unsigned depth, size_t &end);

  /// Where to go on when a way fails; after it, the same at each character before, down to `low`.
  struct Choice {
    size_t pc, at, low;
  };
  std::vector<Choice> choices;
  std::string_view text; ///< of the current call
  uint64_t steps = 0;    ///< left
  void *memory = nullptr;
};

} // namespace quern::runtime

#endif // QUERN_RUNTIME_TOKENIZERPATTERN_H
