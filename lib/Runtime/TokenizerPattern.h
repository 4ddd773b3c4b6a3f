//===- TokenizerPattern.h - Compiled regular expressions --------*- C++ -*-===//
//
// PCRE2 behind the syntax and the Unicode version that tokenizer files are
// written for (Oniguruma's).
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_RUNTIME_TOKENIZERPATTERN_H
#define QUERN_RUNTIME_TOKENIZERPATTERN_H

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;
struct pcre2_real_jit_stack_8;

namespace quern::runtime {

/// Rewrites an Oniguruma expression for PCRE2: what \s, \w, \h, \p{L} mean differs. False and a
/// message where PCRE2 has no equal (nested classes, intersections).
bool translatePattern(std::string_view pattern, std::string &out, std::string &error);

/// What Rust's regular expressions call \w, as the inside of a class: word boundaries of added
/// tokens and the pre-tokenizer Whitespace follow those, not Oniguruma.
extern const char *const rustWord;

class Pattern {
public:
  Pattern() = default;
  Pattern(Pattern &&other) noexcept : code(other.code) { other.code = nullptr; }
  Pattern &operator=(Pattern &&) = delete;
  ~Pattern();
  /// Compiles; false and a message if the expression is wrong.
  bool compile(std::string_view pattern, std::string &error);

private:
  friend class Matcher;
  pcre2_real_code_8 *code = nullptr;
};

/// The memory matching needs; one per thread of work.
class Matcher {
public:
  Matcher();
  ~Matcher();
  Matcher(const Matcher &) = delete;
  enum Result { Found, None, Failed };
  /// The first match in `text` at or after `from`, into [begin, end). The text must be well-formed
  /// UTF-8. Failed: a limit was hit.
  Result find(const Pattern &pattern, std::string_view text, size_t from, size_t &begin,
              size_t &end);

private:
  pcre2_real_match_data_8 *match;
  pcre2_real_match_context_8 *context;
  pcre2_real_jit_stack_8 *stack;
};

} // namespace quern::runtime

#endif // QUERN_RUNTIME_TOKENIZERPATTERN_H
