//===- TokenizerJsonSteps.cpp - Normalizers, pre-tokenizers, decoders -----===//
//
// Each type that tokenizer.json may name, as steps of the runtime. What has no
// exact equal is refused by name.
//
//===----------------------------------------------------------------------===//
#include "TokenizerJson.h"
#include "quern/Import/Tokenizer.h"
#include "quern/Runtime/Tokenizer.h"
#include "quern/Support/Json.h"
#include "llvm/Support/FormatVariadic.h"

using namespace llvm;
using namespace quern::runtime;
using S = TokenizerStep;

namespace quern::import {

namespace {
class StepReader {
public:
  StepReader(StringRef where, TokenizerData &data, bool &byteLevel)
      : where(where), data(data), byteLevel(byteLevel) {}
  Error normalizer(const json::Object &o, unsigned depth = 0);
  Error preTokenizer(const json::Object &o, unsigned depth = 0);
  Error decoder(const json::Object &o, unsigned depth = 0);

private:
  StringRef where;
  TokenizerData &data;
  bool &byteLevel;

  template <typename... Ts> Error error(const char *format, Ts &&...values) const {
    return createStringError(where.str() + ": " +
                             formatv(format, std::forward<Ts>(values)...).str());
  }
  template <typename F>
  Error each(const json::Object &o, StringRef list, unsigned depth, const F &read) {
    const json::Array *all = o.getArray(list);
    if (!all)
      return error("a Sequence has no list '{0}'", list);
    if (depth > 8 || all->size() > 256)
      return error("sequences of '{0}' are too deep or too long", list);
    for (const json::Value &v : *all) {
      const json::Object *item = v.getAsObject();
      if (!item)
        return error("an entry of '{0}' is not an object", list);
      if (Error e = read(*item))
        return e;
    }
    return Error::success();
  }
  static S step(S::Kind kind, StringRef a = "", StringRef b = "") {
    S s;
    s.kind = kind;
    s.a = a.str();
    s.b = b.str();
    return s;
  }
  static S split(StringRef pattern, S::Behavior behavior = S::Isolated, bool invert = false) {
    S s = step(S::Split, pattern);
    s.behavior = behavior;
    s.invert = invert;
    return s;
  }
  Expected<S::Behavior> behavior(const json::Object &o) const;
};

Expected<S::Behavior> StepReader::behavior(const json::Object &o) const {
  StringRef name = o.getString("behavior").value_or("");
  for (auto [known, value] : {std::pair<StringRef, S::Behavior>("Removed", S::Removed),
                              {"Isolated", S::Isolated},
                              {"MergedWithPrevious", S::MergedWithPrevious},
                              {"MergedWithNext", S::MergedWithNext},
                              {"Contiguous", S::Contiguous}})
    if (name == known)
      return value;
  return error("unknown behavior '{0}' of a pre-tokenizer", name);
}

Error StepReader::normalizer(const json::Object &o, unsigned depth) {
  StringRef type = o.getString("type").value_or("");
  auto &out = data.normalizer;
  if (type == "Sequence")
    return each(o, "normalizers", depth,
                [&](const json::Object &item) { return normalizer(item, depth + 1); });
  for (auto [name, kind] : {std::pair<StringRef, S::Kind>("NFC", S::NFC),
                            {"NFD", S::NFD},
                            {"NFKC", S::NFKC},
                            {"NFKD", S::NFKD},
                            {"Lowercase", S::Lowercase}})
    if (type == name) {
      out.push_back(step(kind));
      return Error::success();
    }
  if (type == "Strip") {
    if (o.getBoolean("strip_left").value_or(true))
      out.push_back(step(S::StripLeft));
    if (o.getBoolean("strip_right").value_or(true))
      out.push_back(step(S::StripRight));
  } else if (type == "StripAccents") {
    out.push_back(step(S::ReplaceRegex, "\\p{M}", ""));
  } else if (type == "Prepend") {
    out.push_back(step(S::Prepend, o.getString("prepend").value_or("")));
  } else if (type == "Replace") {
    StringRef content = o.getString("content").value_or("");
    const json::Object *pattern = o.getObject("pattern");
    if (pattern && pattern->getString("String"))
      out.push_back(step(S::Replace, *pattern->getString("String"), content));
    else if (pattern && pattern->getString("Regex"))
      out.push_back(step(S::ReplaceRegex, *pattern->getString("Regex"), content));
    else
      return error("normalizer Replace has no pattern");
  } else {
    return error(
        "normalizer '{0}' is not supported; known: NFC, NFD, NFKC, NFKD, Lowercase, Strip, "
        "StripAccents, Prepend, Replace, Sequence",
        type);
  }
  return Error::success();
}

Error StepReader::preTokenizer(const json::Object &o, unsigned depth) {
  StringRef type = o.getString("type").value_or("");
  auto &out = data.preTokenizer;
  if (type == "Sequence") {
    return each(o, "pretokenizers", depth,
                [&](const json::Object &item) { return preTokenizer(item, depth + 1); });
  } else if (type == "ByteLevel") {
    if (o.getBoolean("add_prefix_space").value_or(true))
      out.push_back(step(S::PrependPiece, " "));
    if (o.getBoolean("use_regex").value_or(true))
      out.push_back(split(gpt2Pattern));
    out.push_back(step(S::ByteMap));
    byteLevel = true;
  } else if (type == "Split") {
    Expected<S::Behavior> how = behavior(o);
    if (!how)
      return how.takeError();
    const json::Object *pattern = o.getObject("pattern");
    std::optional<StringRef> literal = pattern ? pattern->getString("String") : std::nullopt;
    std::optional<StringRef> regex = pattern ? pattern->getString("Regex") : std::nullopt;
    if (!literal && !regex)
      return error("pre-tokenizer Split has no pattern");
    S s = split(regex ? *regex : *literal, *how, o.getBoolean("invert").value_or(false));
    if (!regex)
      s.kind = S::SplitLiteral;
    out.push_back(s);
  } else if (type == "Digits") {
    bool individual = o.getBoolean("individual_digits").value_or(false);
    out.push_back(split(individual ? "\\p{N}" : "\\p{N}+"));
  } else if (type == "Punctuation") {
    S::Behavior how = S::Isolated;
    if (o.getString("behavior")) {
      Expected<S::Behavior> given = behavior(o);
      if (!given)
        return given.takeError();
      how = *given;
    }
    out.push_back(split("[!-/:-@\\[-`{-~\\p{P}]", how));
  } else if (type == "Whitespace") {
    // \w+|[^\w\s]+ with the \w of Rust's regular expressions.
    out.push_back(split(formatv("[{0}]+|[^{0}\\s]+", runtime::tokenizerWordClass()).str(),
                        S::Removed,
                        /*invert=*/true));
  } else if (type == "WhitespaceSplit") {
    out.push_back(split("\\s", S::Removed));
  } else if (type == "CharDelimiterSplit") {
    S s = step(S::SplitLiteral, o.getString("delimiter").value_or(""));
    s.behavior = S::Removed;
    out.push_back(s);
  } else if (type == "Metaspace") {
    StringRef mark = o.getString("replacement").value_or("\xE2\x96\x81");
    // Older files: add_prefix_space instead of prepend_scheme.
    StringRef scheme =
        o.getString("prepend_scheme")
            .value_or(o.getBoolean("add_prefix_space").value_or(true) ? "always" : "never");
    out.push_back(step(S::ReplaceChar, " ", mark));
    if (scheme == "always")
      out.push_back(step(S::PrependPiece, mark));
    else if (scheme == "first")
      out.push_back(step(S::PrependFirst, mark));
    else if (scheme != "never")
      return error("unknown prepend_scheme '{0}' of pre-tokenizer Metaspace", scheme);
    if (o.getBoolean("split").value_or(true)) {
      S s = step(S::SplitLiteral, mark);
      s.behavior = S::MergedWithNext;
      out.push_back(s);
    }
  } else {
    return error(
        "pre-tokenizer '{0}' is not supported; known: ByteLevel, Split, Digits, "
        "Punctuation, Whitespace, WhitespaceSplit, CharDelimiterSplit, Metaspace, Sequence",
        type);
  }
  return Error::success();
}

Error StepReader::decoder(const json::Object &o, unsigned depth) {
  StringRef type = o.getString("type").value_or("");
  if (type == "Sequence")
    return each(o, "decoders", depth,
                [&](const json::Object &item) { return decoder(item, depth + 1); });
  if (type == "ByteLevel" || type == "Fuse" || type == "ByteFallback")
    return Error::success();
  if (type == "Metaspace") {
    data.metaspace = true;
    StringRef scheme = o.getString("prepend_scheme").value_or("always");
    data.stripFirstSpace = scheme != "never" && o.getBoolean("add_prefix_space").value_or(true);
    return Error::success();
  }
  if (type == "Replace") {
    const json::Object *pattern = o.getObject("pattern");
    if (pattern && pattern->getString("String") == StringRef("\xE2\x96\x81") &&
        o.getString("content") == StringRef(" ")) {
      data.metaspace = true;
      return Error::success();
    }
    return error("decoder Replace is supported only from U+2581 to a space");
  }
  if (type == "Strip") {
    auto count = [&](StringRef key) { return o.get(key) ? integerOf(o, key).value_or(-1) : 0; };
    int64_t start = count("start");
    if (o.getString("content").value_or("") == " " && (start == 0 || start == 1) &&
        count("stop") == 0) {
      data.stripFirstSpace = start == 1;
      return Error::success();
    }
    return error("decoder Strip is supported only for one leading space");
  }
  return error("decoder '{0}' is not supported; known: ByteLevel, ByteFallback, Fuse, Metaspace, "
               "Replace, Strip, Sequence",
               type);
}
} // namespace

Error readTokenizerSteps(const json::Object &doc, StringRef where, TokenizerData &data,
                         bool &byteLevel) {
  StepReader reader(where, data, byteLevel);
  if (const json::Object *o = doc.getObject("normalizer"))
    if (Error e = reader.normalizer(*o))
      return e;
  if (const json::Object *o = doc.getObject("pre_tokenizer"))
    if (Error e = reader.preTokenizer(*o))
      return e;
  if (const json::Object *o = doc.getObject("decoder"))
    if (Error e = reader.decoder(*o))
      return e;
  // The model works on bytes anyway, so that mapping them last changes nothing.
  if (!data.preTokenizer.empty() && data.preTokenizer.back().kind == S::ByteMap)
    data.preTokenizer.pop_back();
  return Error::success();
}

} // namespace quern::import
