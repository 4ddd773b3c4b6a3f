//===- TokenizerPcre.cpp - Regular expressions by PCRE2 -------------------===//
//
// Translation from Oniguruma's syntax, compilation with PCRE2's JIT where the
// system allows it, and matching. Only some programs are linked with this.
//
//===----------------------------------------------------------------------===//
#include "TokenizerPattern.h"
#include "TokenizerUnicode.h"
#include <cstdio>
#include <utility>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace quern::runtime {

namespace {
/// White_Space, as the inside of a character class.
const char whiteSpace[] =
    "\\x{9}-\\x{D} \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}"
    "\\x{202F}\\x{205F}\\x{3000}";

std::string rangesText(const unicode::Range *ranges, size_t count) {
  std::string out;
  char buffer[48];
  for (size_t i = 0; i < count; ++i) {
    snprintf(buffer, sizeof buffer, "\\x{%X}-\\x{%X}", unsigned(ranges[i].first),
             unsigned(ranges[i].last));
    out += buffer;
  }
  return out;
}

/// The inside of a class for a general category, with what Unicode gained since PCRE2's version.
std::string category(std::string_view name) {
  std::string out = "\\p{" + std::string(name) + "}";
  if (name == "L")
    out += rangesText(unicode::newLetters, unicode::newLettersCount);
  else if (name == "N")
    out += rangesText(unicode::newNumbers, unicode::newNumbersCount);
  else if (name == "P")
    out += rangesText(unicode::newPunctuation, unicode::newPunctuationCount);
  else if (name == "M")
    out += rangesText(unicode::newMarks, unicode::newMarksCount);
  else if (name == "Nd")
    out += rangesText(unicode::newDigits, unicode::newDigitsCount);
  return out;
}

/// Oniguruma's \w: alphabetic, marks, decimal digits, connectors, and Latin-1's other numbers.
std::string wordClass() {
  return category("L") + category("M") + category("Nd") +
         "\\p{Nl}\\p{Pc}\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{"
         "1F149}\\x{1F150}-\\x{1F169}"
         "\\x{1F170}-\\x{1F189}";
}
} // namespace

bool translatePattern(std::string_view p, std::string &out, std::string &error) {
  out.clear();
  if (p.size() > 65536) {
    error = "the expression is longer than 64 KiB";
    return false;
  }
  if (p.substr(0, 2) == "(*") {
    error = "verbs (*...) are not supported";
    return false;
  }
  bool inClass = false;
  auto insert = [&](const std::string &inside, bool negated) {
    if (inClass)
      out += inside;
    else
      out += (negated ? "[^" : "[") + inside + "]";
  };
  for (size_t i = 0; i < p.size(); ++i) {
    char c = p[i];
    if (c == '\\' && i + 1 < p.size()) {
      char e = p[++i];
      if (e == 's') {
        insert(whiteSpace, false);
      } else if (e == 'S' && !inClass) {
        insert(whiteSpace, true);
      } else if (e == 'w' || (e == 'W' && !inClass)) {
        insert(wordClass(), e == 'W');
      } else if (e == 'd') {
        insert(category("Nd"), false);
      } else if (e == 'h') {
        insert("0-9A-Fa-f", false);
      } else if (e == 'p' && i + 1 < p.size() && p[i + 1] == '{') {
        size_t close = p.find('}', i);
        if (close == std::string_view::npos) {
          error = "\\p{ is never closed";
          return false;
        }
        std::string_view name = p.substr(i + 2, close - i - 2);
        if (name == "L" || name == "N" || name == "P" || name == "M" || name == "Nd")
          insert(category(name), false);
        else
          out += "\\p{" + std::string(name) + "}";
        i = close;
      } else if (e == 'u' && i + 4 < p.size()) {
        out += "\\x{" + std::string(p.substr(i + 1, 4)) + "}";
        i += 4;
      } else {
        out += c;
        out += e;
      }
      continue;
    }
    if (inClass) {
      if (c == '[' && i + 1 < p.size() && p[i + 1] == ':') {
        size_t close = p.find(":]", i);
        if (close != std::string_view::npos) {
          out += p.substr(i, close + 2 - i);
          i = close + 1;
          continue;
        }
      }
      if (c == '[') {
        error = "a character class inside a character class is not supported";
        return false;
      }
      if (c == '&' && i + 1 < p.size() && p[i + 1] == '&') {
        error = "intersections of character classes (&&) are not supported";
        return false;
      }
      if (c == ']')
        inClass = false;
    } else if (c == '[') {
      inClass = true;
      out += c;
      if (i + 1 < p.size() && p[i + 1] == '^')
        out += p[++i];
      if (i + 1 < p.size() && p[i + 1] == ']') // a bracket in first place is itself
        out += "\\" + std::string(1, p[++i]);
      continue;
    }
    out += c;
  }
  return true;
}

namespace {
void *compile(std::string_view pattern, std::string &error) {
  std::string translated;
  if (!translatePattern(pattern, translated, error))
    return nullptr;
  pcre2_compile_context *context = pcre2_compile_context_create(nullptr);
  if (!context) {
    error = "out of memory";
    return nullptr;
  }
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  int number = 0;
  PCRE2_SIZE at = 0;
  // Oniguruma's ^ and $ match at every line.
  pcre2_code *code = pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &number, &at, context);
  pcre2_compile_context_free(context);
  if (!code) {
    PCRE2_UCHAR text[256] = {0};
    pcre2_get_error_message(number, text, sizeof text);
    error = "pattern '" + std::string(pattern.substr(0, 200)) +
            "': " + reinterpret_cast<const char *>(text);
    return nullptr;
  }
  // Only faster: where executable memory is refused, the interpreter gives the same matches.
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  return code;
}

struct Memory {
  pcre2_match_data *match = pcre2_match_data_create(1, nullptr);
  pcre2_match_context *context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack *stack = pcre2_jit_stack_create(32 * 1024, 1024 * 1024, nullptr);
  Memory(const Memory &) = delete;
  Memory() {
    if (context && stack)
      pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~Memory() {
    pcre2_match_data_free(match);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
};

MatchResult find(const void *compiled, void *&memory, std::string_view text, size_t from,
                 size_t &begin, size_t &end) {
  if (!memory)
    memory = new Memory;
  const Memory &own = *static_cast<Memory *>(memory);
  auto [match, context] = std::pair(own.match, own.context);
  if (!match || !context)
    return MatchResult::Failed;
  auto code = static_cast<const pcre2_code *>(compiled);
  auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  int rc = pcre2_match(code, subject, text.size(), from, PCRE2_NO_UTF_CHECK, match, context);
  if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
    rc = pcre2_match(code, subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, match,
                     context);
  if (rc == PCRE2_ERROR_NOMATCH)
    return MatchResult::None;
  if (rc < 0)
    return MatchResult::Failed;
  PCRE2_SIZE *at = pcre2_get_ovector_pointer(match);
  begin = at[0];
  end = at[1];
  // \K may put the start anywhere; only a forward, well-formed match is one.
  if (begin < from || end < begin || end > text.size())
    return MatchResult::Failed;
  return MatchResult::Found;
}
} // namespace

extern "C" const PatternEngine quern_pattern_engine = {
    compile, [](void *code) { pcre2_code_free(static_cast<pcre2_code *>(code)); }, find,
    [](void *memory) { delete static_cast<Memory *>(memory); }};

} // namespace quern::runtime
