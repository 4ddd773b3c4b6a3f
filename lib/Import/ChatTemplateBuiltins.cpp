//===- ChatTemplateBuiltins.cpp - Functions, methods, filters, tests ------===//
//
// Those that chat templates use; any other is an error that names it.
//
//===----------------------------------------------------------------------===//
#include "ChatTemplateRender.h"
#include "llvm/ADT/StringExtras.h"

using namespace llvm;

namespace quern::import::jinja {

namespace {
const char blanks[] = " \t\n\r\v\f\x1c\x1d\x1e\x1f";

std::string strip(StringRef s, const Value *characters, bool left, bool right) {
  // Python strips any Unicode white space; the two-byte and three-byte ones as strings.
  static const StringRef wide[] = {"\u0085", "\u00A0", "\u1680", "\u2000", "\u2001",
                                   "\u2002", "\u2003", "\u2004", "\u2005", "\u2006",
                                   "\u2007", "\u2008", "\u2009", "\u200A", "\u2028",
                                   "\u2029", "\u202F", "\u205F", "\u3000"};
  bool given = characters && characters->isString();
  StringRef set = given ? StringRef(characters->text) : StringRef(blanks);
  for (bool more = true; more;) {
    StringRef before = s;
    if (left)
      s = s.ltrim(set);
    if (right)
      s = s.rtrim(set);
    if (!given)
      for (StringRef w : wide) {
        if (left)
          s.consume_front(w);
        if (right)
          s.consume_back(w);
      }
    more = s.size() != before.size();
  }
  return s.str();
}

std::string changeCase(StringRef s, StringRef how) {
  // ASCII only: templates change the case of roles, not of messages.
  std::string out = how == "upper" ? s.upper() : s.lower();
  if (how == "capitalize" && !out.empty())
    out[0] = toUpper(out[0]);
  if (how == "title")
    for (size_t i = 0; i < out.size(); ++i)
      if (i == 0 || !isAlpha(out[i - 1]))
        out[i] = toUpper(out[i]);
  return out;
}

std::string replaceText(StringRef s, StringRef from, StringRef to) {
  if (from.empty())
    return s.str();
  std::string out;
  for (size_t hit; (hit = s.find(from)) != StringRef::npos; s = s.substr(hit + from.size())) {
    out += s.substr(0, hit);
    out += to;
    if (out.size() > 2 * Interpreter::maxText)
      break;
  }
  return out + s.str();
}

size_t characters(StringRef s) {
  size_t n = 0;
  for (char c : s)
    n += (c & 0xC0) != 0x80;
  return n;
}
} // namespace

Value Interpreter::callBuiltin(const std::string &name, const Arguments &a) {
  if (name == "raise_exception")
    return fail("the template says: " + (a.positional.empty() ? "" : a.positional[0].str()));
  if (name == "namespace" || name == "dict") {
    Value v = Value::of(Dict());
    v.isNamespace = name == "namespace";
    for (const auto &[key, value] : a.named) {
      if (value.isNamespace)
        return fail("a namespace cannot hold a namespace");
      if (!spend(v.dict->size() / 8))
        return {};
      v.set(key, value);
    }
    return v;
  }
  if (name == "strftime_now_placeholder") {
    const Value *format = a.get(0, "format");
    if (!format || !format->isString() || StringRef(format->text).contains("}"))
      return fail("strftime_now needs a format");
    return Value::of("{{strftime " + format->text + "}}");
  }
  if (name == "range") {
    int64_t begin = 0, end = 0, step = 1;
    for (const Value &v : a.positional)
      if (!v.isInteger())
        return fail("range needs whole numbers");
    if (a.positional.size() == 1)
      end = a.positional[0].integer;
    if (a.positional.size() > 1) {
      begin = a.positional[0].integer;
      end = a.positional[1].integer;
    }
    if (a.positional.size() > 2)
      step = a.positional[2].integer;
    List out;
    if (step == 0)
      return fail("range needs a step other than zero");
    for (int64_t i = begin; step > 0 ? i < end : i > end;) {
      out.push_back(Value::of(i));
      if (!spend(1))
        return {};
      if (out.size() > maxItems)
        return fail("a range is too long");
      if (__builtin_add_overflow(i, step, &i))
        break;
    }
    return Value::of(std::move(out));
  }
  return fail("the function '" + name + "' is not supported");
}

Value Interpreter::callMethod(const Value &self, const std::string &name, const Arguments &a) {
  if (self.kind == Value::Undefined)
    return fail("'" + self.text + "' is undefined");
  if (self.kind == Value::DictKind) {
    if (const Value *function = self.find(name); function && function->kind == Value::Callable)
      return callBuiltin(function->text, a);
    List out;
    if (name == "items") {
      for (const auto &[k, v] : *self.dict)
        out.push_back(Value::of(List{Value::of(k), v}));
      return Value::of(std::move(out));
    }
    if (name == "keys" || name == "values") {
      for (const auto &[k, v] : *self.dict)
        out.push_back(name == "keys" ? Value::of(k) : v);
      return Value::of(std::move(out));
    }
    if (name == "get" && !a.positional.empty()) {
      if (const Value *v = self.find(a.positional[0].str()))
        return *v;
      return a.positional.size() > 1 ? a.positional[1] : Value::none();
    }
  }
  if (self.isString()) {
    const Value *first = a.get(0, "");
    StringRef text = self.text;
    if (name == "strip" || name == "lstrip" || name == "rstrip")
      return Value::of(strip(text, first, name != "rstrip", name != "lstrip"));
    if (name == "upper" || name == "lower" || name == "capitalize" || name == "title")
      return Value::of(changeCase(text, name));
    bool given = first && first->isString();
    if ((name == "startswith" || name == "endswith") && given)
      return Value::boolean(name == "startswith" ? text.starts_with(first->text)
                                                 : text.ends_with(first->text));
    if ((name == "find" || name == "replace" || name == "split") && given &&
        !spendSearch(self.text, first->text))
      return {};
    if (name == "find" && given) {
      size_t hit = text.find(first->text);
      return Value::of(hit == StringRef::npos ? int64_t(-1)
                                              : int64_t(characters(text.substr(0, hit))));
    }
    if (name == "replace" && given && a.positional.size() >= 2)
      return sized(replaceText(text, first->text, a.positional[1].str()));
    if (name == "split") {
      List out;
      int64_t most = a.get(1, "maxsplit") && a.get(1, "maxsplit")->isInteger()
                         ? a.get(1, "maxsplit")->integer
                         : -1;
      if (given && !first->text.empty()) {
        size_t hit;
        while (most-- != 0 && (hit = text.find(first->text)) != StringRef::npos) {
          out.push_back(Value::of(text.substr(0, hit).str()));
          text = text.substr(hit + first->text.size());
        }
        out.push_back(Value::of(text.str()));
      } else {
        for (text = text.ltrim(blanks); !text.empty(); text = text.ltrim(blanks)) {
          size_t end = std::min(text.find_first_of(blanks), text.size());
          out.push_back(Value::of(text.substr(0, end).str()));
          text = text.substr(end);
        }
      }
      if (out.size() > maxItems)
        return fail("a list grows too long");
      return Value::of(std::move(out));
    }
    if (name == "join" && first) {
      Arguments separator;
      separator.positional.push_back(self);
      return applyFilter("join", *first, separator);
    }
  }
  return fail("the method '" + name + "' of '" + self.repr().substr(0, 40) + "' is not supported");
}

Value Interpreter::applyFilter(const std::string &name, const Value &in, const Arguments &a) {
  const Value *first = a.get(0, "");
  if (name == "default" || name == "d") {
    const Value *value = a.get(0, "default_value"), *falsy = a.get(1, "boolean");
    bool missing = in.kind == Value::Undefined || (falsy && falsy->truthy() && !in.truthy());
    return missing ? (value ? *value : Value::of("")) : in;
  }
  if (name == "trim")
    return Value::of(strip(in.str(), a.get(0, "chars"), true, true));
  if (name == "string")
    return Value::of(in.str());
  if (name == "safe")
    return in;
  if (name == "upper" || name == "lower" || name == "capitalize" || name == "title")
    return Value::of(changeCase(in.str(), name));
  if (name == "tojson") {
    const Value *indent = a.get(0, "indent");
    if (in.kind == Value::Undefined)
      return fail("'" + in.text + "' is undefined and has no JSON form");
    return sized(in.json(
        indent && indent->isInteger() ? int(std::clamp<int64_t>(indent->integer, 0, 16)) : -1));
  }
  if (name == "int") {
    int64_t i = 0;
    if (in.isInteger())
      i = in.integer;
    else if (in.kind == Value::Float && std::abs(in.number) < 9e18)
      i = int64_t(in.number);
    else if (in.isString() && StringRef(in.text).trim().getAsInteger(10, i))
      i = 0;
    return Value::of(i);
  }
  if (name == "replace") {
    if (a.positional.size() < 2)
      return fail("the filter replace needs two strings");
    if (!spendSearch(in.str(), a.positional[0].str()))
      return {};
    return sized(replaceText(in.str(), a.positional[0].str(), a.positional[1].str()));
  }
  if (name == "indent") {
    const Value *width = a.get(0, "width"), *all = a.get(1, "first");
    std::string pad(
        width && width->isInteger() ? size_t(std::clamp<int64_t>(width->integer, 0, 64)) : 4, ' ');
    std::string out = all && all->truthy() ? pad : "", text = in.str();
    for (size_t i = 0; i < text.size() && out.size() <= maxText; ++i) {
      out += text[i];
      if (text[i] == '\n' && i + 1 < text.size() && text[i + 1] != '\n')
        out += pad;
    }
    return sized(out);
  }
  if (name == "length" || name == "count") {
    if (in.isString())
      return Value::of(int64_t(characters(in.text)));
    List items;
    return iterate(in, items) ? Value::of(int64_t(items.size())) : Value();
  }

  List items, out;
  static const char *const lists[] = {"list",    "first",      "last",       "join",
                                      "reverse", "selectattr", "rejectattr", "select",
                                      "reject",  "map",        "items",      "unique"};
  bool known = false;
  for (StringRef l : lists)
    known |= name == l;
  if (!known)
    return fail("the filter '" + name + "' is not supported");
  if (name == "items") {
    if (in.kind == Value::DictKind)
      for (const auto &[k, v] : *in.dict)
        out.push_back(Value::of(List{Value::of(k), v}));
    return Value::of(std::move(out));
  }
  if (!iterate(in, items))
    return {};
  if (name == "list")
    return Value::of(std::move(items));
  if (name == "first" || name == "last")
    return items.empty() ? Value::undefined(name) : name == "first" ? items.front() : items.back();
  if (name == "reverse") {
    if (in.isString()) {
      std::string text;
      for (auto it = items.rbegin(); it != items.rend(); ++it)
        text += it->text;
      return Value::of(text);
    }
    return Value::of(List(items.rbegin(), items.rend()));
  }
  if (name == "join") {
    const Value *separator = a.get(0, "d"), *key = a.get(1, "attribute");
    std::string text;
    for (size_t i = 0; i < items.size() && text.size() <= maxText; ++i)
      text += (i && separator ? separator->str() : "") +
              (key ? attribute(items[i], key->str()) : items[i]).str();
    return sized(text);
  }
  if (name == "unique") {
    for (const Value &v : items) {
      bool seen = false;
      for (const Value &o : out)
        seen |= equal(v, o);
      if (!seen && out.size() < 1000)
        out.push_back(v);
    }
    return Value::of(std::move(out));
  }
  if (name == "map") {
    const Value *key = a.get(SIZE_MAX, "attribute");
    for (const Value &v : items) {
      if (key) {
        out.push_back(attribute(v, key->str()));
      } else if (first) {
        Arguments rest;
        rest.positional.assign(a.positional.begin() + 1, a.positional.end());
        out.push_back(applyFilter(first->str(), v, rest));
      } else {
        return fail("the filter map needs an attribute or a filter");
      }
      if (failed())
        return {};
    }
    return Value::of(std::move(out));
  }
  // selectattr, rejectattr: attribute, test, arguments; select, reject: test, arguments.
  bool byAttribute = StringRef(name).ends_with("attr"),
       keep = StringRef(name).starts_with("select");
  size_t testAt = byAttribute ? 1 : 0;
  if (a.positional.size() < testAt)
    return fail("the filter " + name + " needs an attribute");
  for (const Value &v : items) {
    Value subject = byAttribute ? attribute(v, a.positional[0].str()) : v;
    bool pass;
    if (a.positional.size() > testAt) {
      Arguments rest;
      rest.positional.assign(a.positional.begin() + testAt + 1, a.positional.end());
      pass = applyTest(a.positional[testAt].str(), subject, rest);
    } else {
      pass = subject.truthy();
    }
    if (failed())
      return {};
    if (pass == keep)
      out.push_back(v);
  }
  return Value::of(std::move(out));
}

bool Interpreter::applyTest(const std::string &name, const Value &in, const Arguments &a) {
  const Value *first = a.get(0, "");
  if (name == "defined")
    return in.kind != Value::Undefined;
  if (name == "undefined")
    return in.kind == Value::Undefined;
  if (name == "none")
    return in.kind == Value::None;
  if (name == "string")
    return in.isString();
  if (name == "mapping")
    return in.kind == Value::DictKind;
  if (name == "iterable" || name == "sequence")
    return in.isString() || in.kind == Value::ListKind || in.kind == Value::DictKind ||
           in.kind == Value::Undefined;
  if (name == "number")
    return in.isNumber();
  if (name == "integer")
    return in.kind == Value::Int;
  if (name == "float")
    return in.kind == Value::Float;
  if (name == "boolean")
    return in.kind == Value::Bool;
  if (name == "true")
    return in.kind == Value::Bool && in.integer;
  if (name == "false")
    return in.kind == Value::Bool && !in.integer;
  if (name == "callable")
    return in.kind == Value::Callable;
  if (name == "odd" || name == "even")
    return in.isInteger() && (in.integer % 2 != 0) == (name == "odd");
  if (first) {
    if (name == "equalto" || name == "eq" || name == "==" || name == "sameas")
      return equal(in, *first);
    if (name == "ne" || name == "!=")
      return !equal(in, *first);
    if (name == "in") {
      if (first->isString())
        return spendSearch(first->text, in.text) && in.isString() &&
               StringRef(first->text).contains(in.text);
      List items;
      iterate(*first, items);
      for (const Value &v : items)
        if (equal(in, v))
          return true;
      return false;
    }
    if (name == "divisibleby" && in.isInteger() && first->isInteger() && first->integer != 0 &&
        first->integer != -1)
      return in.integer % first->integer == 0;
  }
  fail("the test '" + name + "' is not supported");
  return false;
}

} // namespace quern::import::jinja
