//===- Json.cpp - JSON from files that may be hostile ---------------------===//
//
// llvm::json::parse recurses without limit and keeps the last of repeated keys.
// A scan beforehand bounds the nesting and finds the repetitions.
//
//===----------------------------------------------------------------------===//
#include "quern/Support/Json.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/Error.h"

using namespace llvm;

namespace quern {
namespace {

constexpr unsigned maxDepth = 64;

Error fileError(StringRef path, const Twine &message) {
  return createStringError(Twine(path) + ": " + message);
}

/// One pass over the text, outside of the grammar: strings and brackets only. What it does not
/// understand the real parser will refuse.
class Scanner {
public:
  Scanner(StringRef text, StringRef path) : text(text), path(path) {}

  Error run() {
    std::vector<StringSet<>> keys; // of the open objects, empty sets for arrays
    for (size_t i = 0; i < text.size(); ++i) {
      char c = text[i];
      if (c == '{' || c == '[') {
        if (keys.size() == maxDepth)
          return fileError(path, "JSON: nested deeper than " + Twine(maxDepth) +
                                     " levels at byte " + Twine(i));
        keys.emplace_back();
      } else if (c == '}' || c == ']') {
        if (!keys.empty())
          keys.pop_back();
      } else if (c == '"') {
        size_t begin = i + 1;
        for (++i; i < text.size() && text[i] != '"'; ++i)
          if (text[i] == '\\')
            ++i;
        StringRef content = text.slice(begin, i);
        if (keys.empty() || !isKey(i))
          continue;
        if (!keys.back().insert(unescape(content)).second)
          return fileError(path, "JSON: the key \"" + content + "\" occurs twice in one object");
      }
    }
    return Error::success();
  }

private:
  /// Whether the string that ends at `quote` is followed by a colon.
  bool isKey(size_t quote) const {
    size_t next = text.find_first_not_of(" \t\r\n", quote + 1);
    return next != StringRef::npos && text[next] == ':';
  }

  /// Two spellings of one key are one key; only strings with escapes cost a parse.
  static std::string unescape(StringRef content) {
    if (content.contains('\\')) {
      if (Expected<json::Value> value = json::parse(("\"" + content + "\"").str())) {
        if (std::optional<StringRef> plain = value->getAsString())
          return plain->str();
      } else {
        consumeError(value.takeError());
      }
    }
    return content.str();
  }

  StringRef text, path;
};

/// Writes pairs of escaped surrogates out as UTF-8: llvm::json reads those beyond U+1FFFF wrongly
/// (it joins the halves with a bitwise or).
std::string writeOutSurrogates(StringRef text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    if (text[i] != '\\' || i + 1 >= text.size()) {
      out += text[i++];
      continue;
    }
    unsigned high = 0, low = 0;
    StringRef rest = text.substr(i, 12);
    if (rest.size() == 12 && rest[1] == 'u' && rest.substr(6, 2) == "\\u" &&
        !rest.substr(2, 4).getAsInteger(16, high) && !rest.substr(8, 4).getAsInteger(16, low) &&
        high >= 0xD800 && high < 0xDC00 && low >= 0xDC00 && low < 0xE000) {
      unsigned c = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
      for (unsigned byte :
           {0xF0 | c >> 18, 0x80 | (c >> 12 & 0x3F), 0x80 | (c >> 6 & 0x3F), 0x80 | (c & 0x3F)})
        out += static_cast<char>(byte);
      i += 12;
      continue;
    }
    out += text[i++];
    out += text[i++];
  }
  return out;
}

} // namespace

Expected<json::Value> parseJson(StringRef text, StringRef path) {
  text.consume_front("\xEF\xBB\xBF"); // a byte order mark, as some editors leave
  if (Error e = Scanner(text, path).run())
    return std::move(e);
  std::string mended;
  if (text.contains("\\ud") || text.contains("\\uD"))
    text = mended = writeOutSurrogates(text);
  Expected<json::Value> value = json::parse(text);
  if (!value)
    return fileError(path, "JSON: " + toString(value.takeError()));
  return value;
}

} // namespace quern
