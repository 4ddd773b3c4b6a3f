//===- Json.cpp - A small JSON reader and writer --------------------------===//
//
// Recursive descent with a depth limit; numbers print with the fewest digits that read
// back the same.
//
//===----------------------------------------------------------------------===//
#include "quern/Runtime/Json.h"
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <locale.h>

namespace quern::runtime {

const Json &Json::operator[](std::string_view name) const {
  static const Json null;
  for (const auto &[key, value] : fields)
    if (key == name)
      return value;
  return null;
}

Json &Json::set(std::string name, Json value) {
  fields.emplace_back(std::move(name), std::move(value));
  return *this;
}

Json &Json::push(Json value) {
  elements.push_back(std::move(value));
  return *this;
}

/// Length of the valid UTF-8 character at p, or 0.
static size_t utf8Length(std::string_view s) {
  auto c = static_cast<unsigned char>(s[0]);
  if (c < 0x80)
    return 1;
  size_t n = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
  if (c < 0xC2 || c > 0xF4 || s.size() < n)
    return 0;
  for (size_t i = 1; i < n; ++i)
    if ((s[i] & 0xC0) != 0x80)
      return 0;
  auto second = static_cast<unsigned char>(s[1]);
  if ((c == 0xE0 && second < 0xA0) || (c == 0xED && second > 0x9F) ||
      (c == 0xF0 && second < 0x90) || (c == 0xF4 && second > 0x8F))
    return 0;
  return n;
}

std::string jsonQuote(std::string_view text) {
  std::string out = "\"";
  while (!text.empty()) {
    size_t n = utf8Length(text);
    char c = text[0];
    if (n == 0) {
      out += "\xEF\xBF\xBD";
      n = 1;
    } else if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char buffer[8];
      std::snprintf(buffer, sizeof buffer, "\\u%04x", c);
      out += buffer;
    } else {
      out += text.substr(0, n);
    }
    text.remove_prefix(n);
  }
  return out + "\"";
}

void Json::print(std::string &out) const {
  switch (type) {
  case Kind::Null:
    out += "null";
    break;
  case Kind::Bool:
    out += number ? "true" : "false";
    break;
  case Kind::Number: {
    char buffer[32];
    if (!std::isfinite(number)) { // JSON has no word for it
      out += "null";
      break;
    }
    if (number == std::floor(number) && std::fabs(number) < 1e15) {
      out.append(buffer, std::to_chars(buffer, buffer + sizeof buffer, int64_t(number)).ptr);
      break;
    }
    // The fewest digits that read back the same. (std::to_chars brings 127 KB of tables.)
    for (int digits = 15; digits <= 17; ++digits) {
      std::snprintf(buffer, sizeof buffer, "%.*g", digits, number);
      if (std::strtod(buffer, nullptr) == number)
        break;
    }
    std::replace(buffer, buffer + std::strlen(buffer), ',', '.'); // a host's locale
    out += buffer;
    break;
  }
  case Kind::String:
    out += jsonQuote(text);
    break;
  case Kind::Array:
    out += '[';
    for (size_t i = 0; i < elements.size(); ++i) {
      out += i ? ", " : "";
      elements[i].print(out);
    }
    out += ']';
    break;
  case Kind::Object:
    out += '{';
    for (size_t i = 0; i < fields.size(); ++i) {
      out += i ? ", " : "";
      out += jsonQuote(fields[i].first) + ": ";
      fields[i].second.print(out);
    }
    out += '}';
    break;
  }
}

std::string Json::print() const {
  std::string out;
  print(out);
  return out;
}

class JsonParser {
public:
  JsonParser(std::string_view text, std::string &error) : text(text), error(error) {}

  bool document(Json &out) {
    if (!value(out, 0))
      return false;
    skipSpace();
    return at == text.size() || fail("text after the end");
  }

private:
  bool fail(const char *what) {
    error = std::string(what) + " at byte " + std::to_string(at);
    return false;
  }
  void skipSpace() {
    while (at < text.size() &&
           (text[at] == ' ' || text[at] == '\n' || text[at] == '\t' || text[at] == '\r'))
      ++at;
  }
  bool eat(char c) {
    skipSpace();
    if (at >= text.size() || text[at] != c)
      return false;
    ++at;
    return true;
  }
  bool word(std::string_view w) {
    if (text.substr(at, w.size()) != w)
      return false;
    at += w.size();
    return true;
  }

  bool value(Json &out, int depth) {
    if (depth > 64)
      return fail("nesting too deep");
    skipSpace();
    if (at >= text.size())
      return fail("unexpected end");
    switch (text[at]) {
    case '{':
      ++at;
      out = Json::object();
      if (eat('}'))
        return true;
      do {
        std::string name;
        skipSpace();
        if (!string(name))
          return false;
        if (!eat(':'))
          return fail("expected ':'");
        Json member;
        if (!value(member, depth + 1))
          return false;
        out.set(std::move(name), std::move(member));
      } while (eat(','));
      return eat('}') || fail("expected ',' or '}'");
    case '[':
      ++at;
      out = Json::array();
      if (eat(']'))
        return true;
      do {
        Json element;
        if (!value(element, depth + 1))
          return false;
        out.push(std::move(element));
      } while (eat(','));
      return eat(']') || fail("expected ',' or ']'");
    case '"': {
      std::string s;
      if (!string(s))
        return false;
      out = Json(std::move(s));
      return true;
    }
    case 't':
      out = Json(true);
      return word("true") || fail("unknown word");
    case 'f':
      out = Json(false);
      return word("false") || fail("unknown word");
    case 'n':
      out = Json();
      return word("null") || fail("unknown word");
    default: {
      double number;
      size_t length = parseDecimal(text.substr(at), number);
      if (!length)
        return fail("expected a value");
      at += length;
      out = Json(number);
      return true;
    }
    }
  }

  bool hex(uint32_t &out) {
    if (text.size() - at < 4)
      return fail("unfinished \\u escape");
    auto [end, ec] = std::from_chars(text.data() + at, text.data() + at + 4, out, 16);
    if (ec != std::errc() || end != text.data() + at + 4)
      return fail("malformed \\u escape");
    at += 4;
    return true;
  }

  static void appendUtf8(std::string &out, uint32_t c) {
    if (c < 0x80) {
      out += char(c);
    } else if (c < 0x800) {
      out += char(0xC0 | c >> 6);
      out += char(0x80 | (c & 63));
    } else if (c < 0x10000) {
      out += char(0xE0 | c >> 12);
      out += char(0x80 | (c >> 6 & 63));
      out += char(0x80 | (c & 63));
    } else {
      out += char(0xF0 | c >> 18);
      out += char(0x80 | (c >> 12 & 63));
      out += char(0x80 | (c >> 6 & 63));
      out += char(0x80 | (c & 63));
    }
  }

  bool string(std::string &out) {
    if (at >= text.size() || text[at] != '"')
      return fail("expected a string");
    for (++at; at < text.size(); ++at) {
      char c = text[at];
      if (c == '"') {
        ++at;
        return true;
      }
      if (static_cast<unsigned char>(c) < 0x20)
        return fail("control character in a string");
      if (c != '\\') {
        out += c;
        continue;
      }
      if (++at >= text.size())
        break;
      static const std::string_view from = "\"\\/bfnrt", to = "\"\\/\b\f\n\r\t";
      if (size_t i = from.find(text[at]); i != std::string_view::npos) {
        out += to[i];
        continue;
      }
      if (text[at] != 'u')
        return fail("unknown escape");
      ++at;
      uint32_t unit, low;
      if (!hex(unit))
        return false;
      if (unit >= 0xD800 && unit < 0xDC00 && word("\\u")) {
        if (!hex(low))
          return false;
        unit = low >= 0xDC00 && low < 0xE000 ? 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)
                                             : 0xFFFD;
      } else if (unit >= 0xD800 && unit < 0xE000) {
        unit = 0xFFFD;
      }
      appendUtf8(out, unit);
      --at; // the loop steps over the last character
    }
    return fail("unfinished string");
  }

  std::string_view text;
  std::string &error;
  size_t at = 0;
};

bool Json::parse(std::string_view text, Json &out, std::string &error) {
  return JsonParser(text, error).document(out);
}

// std::from_chars of a double brings 24 KB of code and tables.
size_t parseDecimal(std::string_view text, double &out) {
  static const locale_t plain = newlocale(LC_ALL_MASK, "C", nullptr);
  size_t extent = std::min(text.find_first_not_of("0123456789+-.eE"), text.size());
  std::string copy(text.substr(0, extent));
  if (copy.empty() || copy[0] == '+')
    return 0;
  char *end = nullptr;
  out = strtod_l(copy.c_str(), &end, plain);
  return std::isfinite(out) ? size_t(end - copy.c_str()) : 0;
}

} // namespace quern::runtime
