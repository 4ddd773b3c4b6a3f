//===- TokenizerPatternCompile.cpp - From expression to program -----------===//
//
// Parses what PCRE2 would; which characters a class has, PCRE2 itself is asked, so
// that both agree. Runs in the compiler only.
//
//===----------------------------------------------------------------------===//
#include "TokenizerPattern.h"
#include "TokenizerUnicode.h"
#include "quern/Runtime/Tokenizer.h"
#include <map>
#include <memory>
#include <mutex>
#include <optional>

namespace quern::runtime {

const char *const rustWord = "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200C}\\x{200D}\\x{24B6}-\\x{"
                             "24E9}\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}";

const char *tokenizerWordClass() { return rustWord; }

namespace {
using Op = PatternProgram::Op;
using Boundaries = std::vector<uint32_t>;

/// The characters that a single-character expression matches; nothing if PCRE2 refuses it.
std::optional<Boundaries> charactersOf(const std::string &expression) {
  static std::mutex mutex;
  static std::map<std::string, Boundaries> known;
  std::lock_guard<std::mutex> lock(mutex);
  if (auto it = known.find(expression); it != known.end())
    return it->second;
  const PatternEngine &engine = *patternEngine();
  std::string error;
  std::unique_ptr<void, void (*)(void *)> code(engine.compile(expression + "++", error),
                                               engine.free);
  if (!code)
    return std::nullopt;
  std::string all;
  for (uint32_t c = 0; c < 0x110000; ++c)
    if (c < 0xD800 || c > 0xDFFF)
      unicode::appendCharacter(all, c);
  auto at = [&](size_t i) {
    return unicode::decodeCharacter(&all[i],
                                    unicode::characterLength(std::string_view(all).substr(i)));
  };
  Boundaries out;
  void *memory = nullptr;
  MatchResult result = MatchResult::Found;
  for (size_t from = 0, begin, end; from < all.size(); from = end) {
    result = engine.find(code.get(), memory, all, from, begin, end);
    if (result != MatchResult::Found || begin == end)
      break;
    out.push_back(at(begin));
    out.push_back(end < all.size() ? at(end) : 0x110000);
  }
  if (memory)
    engine.freeMemory(memory);
  if (result == MatchResult::Failed)
    return std::nullopt;
  known[expression] = out;
  return out;
}

/// Recursive descent. Whatever it does not know ends in `unsupported`, and PCRE2 takes over.
class Parser {
public:
  Parser(std::string_view text, PatternProgram &out) : text(text), out(out) {}

  bool run() {
    Fragment all = alternatives(0);
    if (unsupported || at != text.size())
      return false;
    out.code = std::move(all.code);
    out.code.push_back({Op::Match});
    return out.code.size() <= PatternProgram::maxInstructions;
  }

private:
  struct Fragment {
    std::vector<PatternProgram::Instruction> code;
    bool mayBeEmpty = true;
  };

  bool done() const { return unsupported || at >= text.size(); }
  bool take(std::string_view s) {
    if (text.substr(at, s.size()) != s)
      return false;
    at += s.size();
    return true;
  }
  Fragment fail() {
    unsupported = true;
    return {};
  }

  static void append(Fragment &to, const Fragment &from) {
    to.code.insert(to.code.end(), from.code.begin(), from.code.end());
    to.mayBeEmpty &= from.mayBeEmpty;
  }

  Fragment alternatives(unsigned depth) {
    if (depth > 12)
      return fail();
    bool outer = caseless;
    std::vector<Fragment> ways(1);
    while (!done() && text[at] != ')') {
      if (take("|"))
        ways.emplace_back();
      else
        append(ways.back(), repeated(depth));
    }
    caseless = outer;
    Fragment all = std::move(ways.back());
    for (size_t i = ways.size() - 1; i--;) {
      Fragment &way = ways[i];
      Fragment both;
      both.mayBeEmpty = way.mayBeEmpty || all.mayBeEmpty;
      int32_t other = int32_t(way.code.size()) + 2;
      both.code.push_back({Op::Split, 1, other});
      both.code.insert(both.code.end(), way.code.begin(), way.code.end());
      both.code.push_back({Op::Jump, int32_t(all.code.size()) + 1});
      both.code.insert(both.code.end(), all.code.begin(), all.code.end());
      all = std::move(both);
      if (all.code.size() > PatternProgram::maxInstructions)
        return fail();
    }
    return all;
  }

  /// A body between an instruction and a Match of its own.
  static Fragment enclosed(Op op, const Fragment &body) {
    Fragment f;
    f.code.push_back({op, int32_t(body.code.size()) + 2});
    f.code.insert(f.code.end(), body.code.begin(), body.code.end());
    f.code.push_back({Op::Match});
    f.mayBeEmpty = op != Op::Atomic || body.mayBeEmpty;
    return f;
  }

  Fragment repeated(unsigned depth) {
    Fragment one = atom(depth);
    while (!done()) {
      uint32_t min = 0, max = PatternProgram::noMaximum;
      if (take("+"))
        min = 1;
      else if (take("?"))
        max = 1;
      else if (text[at] == '{') {
        if (!counts(min, max))
          return fail(); // PCRE2 takes some of these for plain characters
      } else if (!take("*"))
        break;
      bool lazy = take("?"), keep = !lazy && take("+");
      one = repeat(one, min, max, lazy, keep);
    }
    return one;
  }

  bool counts(uint32_t &min, uint32_t &max) {
    size_t i = at + 1;
    auto number = [&](uint32_t &value) {
      size_t first = i;
      for (value = 0; i < text.size() && text[i] >= '0' && text[i] <= '9' && value < 1000; ++i)
        value = value * 10 + uint32_t(text[i] - '0');
      return i > first && value < 1000;
    };
    if (!number(min))
      return false;
    max = min;
    if (i < text.size() && text[i] == ',') {
      ++i;
      max = PatternProgram::noMaximum;
      if (i < text.size() && text[i] != '}' && !number(max))
        return false;
    }
    if (i >= text.size() || text[i] != '}' || max < min)
      return false;
    at = i + 1;
    return true;
  }

  Fragment repeat(const Fragment &one, uint32_t min, uint32_t max, bool lazy, bool keep) {
    Fragment f;
    if (!lazy && one.code.size() == 1 && one.code[0].op == Op::Class) {
      f.code.push_back({keep ? Op::KeepLoop : Op::Loop, one.code[0].a, 0, min, max});
      f.mayBeEmpty = min == 0;
      return f;
    }
    bool endless = max == PatternProgram::noMaximum;
    size_t copies = endless ? size_t(min) + 1 : max;
    if ((endless && one.mayBeEmpty) ||
        copies * (one.code.size() + 2) > PatternProgram::maxInstructions)
      return fail();
    for (uint32_t i = 0; i < min; ++i)
      append(f, one);
    int32_t size = int32_t(one.code.size());
    auto choice = [&](int32_t more, int32_t leave) {
      f.code.push_back({Op::Split, lazy ? leave : more, lazy ? more : leave});
    };
    if (endless) {
      choice(1, size + 2);
      f.code.insert(f.code.end(), one.code.begin(), one.code.end());
      f.code.push_back({Op::Jump, -size - 1});
    } else {
      for (uint32_t left = max - min; left; --left) {
        choice(1, int32_t(left) * (size + 1));
        f.code.insert(f.code.end(), one.code.begin(), one.code.end());
      }
    }
    f.mayBeEmpty = min == 0 || one.mayBeEmpty;
    return keep ? enclosed(Op::Atomic, f) : f;
  }

  Fragment group(unsigned depth) {
    std::optional<Op> around;
    bool outer = caseless;
    if (take("?")) {
      if (take("i:"))
        caseless = true;
      else if (take("i)")) { // for the rest of the group it stands in, which restores it
        caseless = true;
        return {};
      } else if (take("="))
        around = Op::Ahead;
      else if (take("!"))
        around = Op::NotAhead;
      else if (take(">"))
        around = Op::Atomic;
      else if (!take(":"))
        return fail();
    } else if (text.substr(at, 1) == "*")
      return fail();
    Fragment body = alternatives(depth + 1);
    caseless = outer;
    if (!take(")"))
      return fail();
    return around ? enclosed(*around, body) : body;
  }

  Fragment atom(unsigned depth) {
    if (take("("))
      return group(depth);
    for (auto [sign, op] : {std::pair("^", Op::LineBegin), std::pair("$", Op::LineEnd)})
      if (take(sign)) {
        Fragment f;
        f.code.push_back({op});
        return f;
      }
    size_t first = at;
    if (text[at] == '[') {
      if (!skipClass())
        return fail();
    } else if (text[at] == '\\') {
      if (!skipEscape())
        return fail();
    } else if (text[at] == '{' || text[at] == '*' || text[at] == '+' || text[at] == '?') {
      return fail();
    } else {
      at += std::max<size_t>(1, unicode::characterLength(text.substr(at)));
    }
    return characterClass(text.substr(first, at - first));
  }

  bool skipEscape() {
    if (at + 1 >= text.size())
      return false;
    char e = text[at + 1];
    at += 2;
    if (e == 'p' || e == 'P' || e == 'x') {
      size_t close = text.find('}', at);
      if (at >= text.size() || text[at] != '{' || close == std::string_view::npos)
        return false;
      at = close + 1;
      return true;
    }
    bool letter = (e >= 'a' && e <= 'z') || (e >= 'A' && e <= 'Z') || (e >= '0' && e <= '9');
    return !letter ? static_cast<uint8_t>(e) < 128
                   : std::string_view("rntfaedDsSwWhHvV").find(e) != std::string_view::npos;
  }

  bool skipClass() {
    ++at;
    take("^");
    for (bool start = true; at < text.size(); start = false) {
      if (text[at] == ']' && !start) {
        ++at;
        return true;
      }
      if (text[at] == '\\') {
        if (!skipEscape())
          return false;
      } else if (text.substr(at, 2) == "[:") {
        size_t close = text.find(":]", at);
        if (close == std::string_view::npos)
          return false;
        at = close + 2;
      } else {
        ++at;
      }
    }
    return false;
  }

  Fragment characterClass(std::string_view expression) {
    std::string spelled = (caseless ? "(?i)" : "") + std::string(expression);
    auto boundaries = charactersOf(spelled);
    if (!boundaries)
      return fail();
    size_t index = 0;
    while (index < out.classes.size() && out.classes[index].boundaries != *boundaries)
      ++index;
    if (index == out.classes.size()) {
      if (index == PatternProgram::maxClasses)
        return fail();
      out.classes.emplace_back();
      out.classes.back().boundaries = std::move(*boundaries);
      out.classes.back().setAscii();
    }
    Fragment f;
    f.code.push_back({Op::Class, int32_t(index)});
    f.mayBeEmpty = false;
    return f;
  }

  std::string_view text;
  PatternProgram &out;
  size_t at = 0;
  bool caseless = false, unsupported = false;
};
} // namespace

bool compilePattern(std::string_view pattern, PatternProgram &out) {
  out = {};
  std::string translated, error;
  return translatePattern(pattern, translated, error) && Parser(translated, out).run();
}

} // namespace quern::runtime
