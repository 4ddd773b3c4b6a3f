//===- ChatTemplateLex.cpp - Chat templates as tokens ---------------------===//
//
// Text and tags apart, with the white space that tags take away; then the words,
// strings, numbers and symbols inside of tags.
//
//===----------------------------------------------------------------------===//
#include "ChatTemplateParser.h"
#include "llvm/ADT/StringExtras.h"

using namespace llvm;

namespace quern::import::jinja {

namespace {
class Lexer {
public:
  bool run(StringRef source);
  std::vector<Token> tokens;
  std::string problem;

private:
  bool inside(StringRef s, size_t &i, StringRef close);
  bool string(StringRef s, size_t &i, std::string &text);
  bool fail(const Twine &message) {
    problem = ("line " + Twine(line) + ": " + message).str();
    return false;
  }
  unsigned line = 1;
};

void appendUtf8(std::string &text, unsigned c) {
  if (c < 0x80) {
    text += char(c);
    return;
  }
  if (c < 0x800) {
    text += char(0xC0 | c >> 6);
  } else {
    text += char(0xE0 | c >> 12);
    text += char(0x80 | (c >> 6 & 0x3F));
  }
  text += char(0x80 | (c & 0x3F));
}

/// A string literal that begins at `i`.
bool Lexer::string(StringRef s, size_t &i, std::string &text) {
  char quote = s[i];
  size_t end = i + 1;
  for (; end < s.size() && s[end] != quote; ++end) {
    if (s[end] == '\n')
      ++line;
    if (s[end] != '\\' || end + 1 >= s.size()) {
      text += s[end];
      continue;
    }
    char e = s[++end];
    size_t digits = e == 'u' ? 4 : e == 'x' ? 2 : 0;
    unsigned value = 0;
    if (digits && !s.substr(end + 1, digits).getAsInteger(16, value) &&
        s.substr(end + 1, digits).size() == digits) {
      appendUtf8(text, value);
      end += digits;
      continue;
    }
    switch (e) {
    case 'n':
      text += '\n';
      break;
    case 't':
      text += '\t';
      break;
    case 'r':
      text += '\r';
      break;
    case '\\':
    case '\'':
    case '"':
      text += e;
      break;
    default:
      (text += '\\') += e;
    }
  }
  if (end >= s.size())
    return fail("a string is never closed");
  i = end + 1;
  return true;
}

/// The tokens of one tag, up to its `close`.
bool Lexer::inside(StringRef s, size_t &i, StringRef close) {
  auto push = [&](Token::Kind kind, StringRef text) { tokens.push_back({kind, text.str(), line}); };
  int nesting = 0;
  while (i < s.size()) {
    char c = s[i];
    if (c == '\n')
      ++line;
    if (isSpace(c)) {
      ++i;
      continue;
    }
    // `-%}` also trims what follows; `}}` inside braces closes a dict first.
    if (nesting == 0) {
      StringRef rest = s.substr(i);
      bool trim = rest.starts_with("-") && rest.substr(1).starts_with(close);
      bool keep = rest.starts_with("+") && rest.substr(1).starts_with(close);
      if (trim || keep || rest.starts_with(close)) {
        push(Token::End, trim ? "-" : keep ? "+" : "");
        i += close.size() + (trim || keep);
        return true;
      }
    }
    if (isAlpha(c) || c == '_') {
      size_t end = i;
      while (end < s.size() && (isAlnum(s[end]) || s[end] == '_'))
        ++end;
      push(Token::Word, s.slice(i, end));
      i = end;
    } else if (isDigit(c)) {
      size_t end = i;
      bool real = false;
      while (end < s.size() &&
             (isDigit(s[end]) || s[end] == '_' ||
              (s[end] == '.' && !real && end + 1 < s.size() && isDigit(s[end + 1])))) {
        real |= s[end] == '.';
        ++end;
      }
      push(real ? Token::Float : Token::Integer, s.slice(i, end));
      i = end;
    } else if (c == '"' || c == '\'') {
      std::string text;
      if (!string(s, i, text))
        return false;
      push(Token::String, text);
    } else {
      static const char *const two[] = {"==", "!=", "<=", ">=", "//", "**"};
      StringRef text = s.substr(i, 1);
      for (const char *t : two)
        if (s.substr(i).starts_with(t))
          text = t;
      if (StringRef("()[]{}.,:|=+-*/%~<>").find(text[0]) == StringRef::npos && text != "!=") {
        return fail("unexpected character '" + text + "'");
      }
      if (text == "(" || text == "[" || text == "{")
        ++nesting;
      if (text == ")" || text == "]" || text == "}")
        --nesting;
      push(Token::Symbol, text);
      i += text.size();
    }
  }
  return fail("a tag is never closed");
}

bool Lexer::run(StringRef source) {
  std::string normalized; // one kind of line end, and none at the end of the template
  for (size_t i = 0; i < source.size(); ++i)
    if (source[i] != '\r')
      normalized += source[i];
    else if (i + 1 >= source.size() || source[i + 1] != '\n')
      normalized += '\n';
  StringRef s = normalized;
  s.consume_back("\n");
  bool trimNext = false;    // the tag before ended in `-`
  bool newlineNext = false; // the tag before drops one newline
  for (size_t i = 0; i <= s.size();) {
    size_t open = i;
    while (open < s.size() &&
           !(s[open] == '{' && open + 1 < s.size() && StringRef("{%#").contains(s[open + 1])))
      ++open;
    StringRef text = s.slice(i, open);
    unsigned textLine = line;
    line += text.count('\n');
    if (trimNext)
      text = text.ltrim(" \t\n\r\v\f");
    else if (newlineNext)
      text.consume_front("\n");
    bool last = open >= s.size();
    char type = last ? 0 : s[open + 1];
    char sign = open + 2 < s.size() ? s[open + 2] : 0;
    if (!last) {
      if (sign == '-') {
        text = text.rtrim(" \t\n\r\v\f");
      } else if (type != '{' && sign != '+') {
        // lstrip_blocks: white space before a tag that stands first on its line.
        StringRef kept = text.rtrim(" \t");
        bool lineStart =
            kept.ends_with("\n") ||
            (kept.empty() && (i == 0 || (!trimNext && s.slice(i, open).contains('\n')) ||
                              s.substr(0, i).ends_with("\n")));
        if (lineStart)
          text = kept;
      }
    }
    if (!text.empty())
      tokens.push_back({Token::Text, text.str(), textLine});
    if (last)
      break;
    i = open + 2 + (sign == '-' || sign == '+');
    trimNext = newlineNext = false;
    if (type == '#') {
      size_t close = s.find("#}", open + 2);
      if (close == StringRef::npos) {
        return fail("a comment is never closed");
      }
      line += s.slice(open, close).count('\n');
      trimNext = s[close - 1] == '-' && close - 1 >= open + 2;
      newlineNext = !trimNext && s[close - 1] != '+';
      i = close + 2;
      continue;
    }
    tokens.push_back(
        {type == '{' ? Token::OutputBegin : Token::BlockBegin, s.substr(open, 2).str(), line});
    if (!inside(s, i, type == '{' ? "}}" : "%}"))
      return false;
    trimNext = tokens.back().text == "-";
    newlineNext = type == '%' && tokens.back().text.empty();
  }
  tokens.push_back({Token::Eof, "the end of the template", line});
  return true;
}
} // namespace

Expected<std::vector<Token>> lex(StringRef source) {
  Lexer lexer;
  if (!lexer.run(source))
    return createStringError(lexer.problem);
  return std::move(lexer.tokens);
}

} // namespace quern::import::jinja
