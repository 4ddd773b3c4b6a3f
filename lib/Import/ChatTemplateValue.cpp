//===- ChatTemplateValue.cpp - Values of the template language ------------===//
//
// Truth, equality and printing, as Python does them.
//
//===----------------------------------------------------------------------===//
#include "ChatTemplateValue.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/FormatVariadic.h"

namespace quern::import::jinja {

namespace {
constexpr unsigned deepest = 40;

std::string number(double d) {
  char buffer[64];
  for (int digits = 1; digits <= 17; ++digits) { // the shortest that reads back equal
    snprintf(buffer, sizeof buffer, "%.*g", digits, d);
    if (strtod(buffer, nullptr) == d)
      break;
  }
  std::string s = buffer;
  if (s.find_first_of(".en") == std::string::npos)
    s += ".0";
  return s;
}
} // namespace

bool Value::truthy() const {
  switch (kind) {
  case Undefined:
  case None:
    return false;
  case Bool:
  case Int:
    return integer != 0;
  case Float:
    return number != 0;
  case String:
    return !text.empty();
  case ListKind:
    return !list->empty();
  case DictKind:
    return isNamespace || !dict->empty();
  case Callable:
    return true;
  }
  return false;
}

const Value *Value::find(const std::string &key) const {
  if (kind == DictKind)
    for (const auto &[k, v] : *dict)
      if (k == key)
        return &v;
  return nullptr;
}

void Value::set(const std::string &key, Value v) {
  for (auto &[k, old] : *dict)
    if (k == key) {
      old = std::move(v);
      return;
    }
  dict->emplace_back(key, std::move(v));
}

std::string Value::str(unsigned depth) const {
  switch (kind) {
  case Undefined:
    return "";
  case String:
    return text;
  default:
    return repr(depth);
  }
}

std::string Value::repr(unsigned depth) const {
  if (depth > deepest)
    return "...";
  switch (kind) {
  case Undefined:
    return "Undefined";
  case None:
    return "None";
  case Bool:
    return integer ? "True" : "False";
  case Int:
    return std::to_string(integer);
  case Float:
    return quern::import::jinja::number(number);
  case String: {
    char quote =
        text.find('\'') != std::string::npos && text.find('"') == std::string::npos ? '"' : '\'';
    std::string out(1, quote);
    for (char c : text) {
      if (c == '\n')
        out += "\\n";
      else if (c == '\t')
        out += "\\t";
      else if (c == '\r')
        out += "\\r";
      else if (c == '\\' || c == quote)
        (out += '\\') += c;
      else
        out += c;
    }
    return out += quote;
  }
  case ListKind: {
    std::string out = "[";
    for (const Value &v : *list)
      out += (out.size() > 1 ? ", " : "") + v.repr(depth + 1);
    return out + "]";
  }
  case DictKind: {
    std::string out = "{";
    for (const auto &[k, v] : *dict)
      out += (out.size() > 1 ? ", " : "") + Value::of(k).repr(depth + 1) + ": " + v.repr(depth + 1);
    return out + "}";
  }
  case Callable:
    return "<function>";
  }
  return "";
}

std::string Value::json(int indent, unsigned depth) const {
  if (depth > deepest)
    return "null";
  auto newline = [&](unsigned level) {
    return indent < 0 ? std::string() : "\n" + std::string(size_t(indent) * level, ' ');
  };
  std::string comma = indent < 0 ? ", " : ",";
  switch (kind) {
  case Undefined:
  case None:
  case Callable:
    return "null";
  case Bool:
    return integer ? "true" : "false";
  case Int:
  case Float:
    return repr();
  case String: {
    std::string out = "\"";
    for (char c : text) {
      switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20)
          out += llvm::formatv("\\u{0:x-4}", unsigned(c)).str();
        else
          out += c;
      }
    }
    return out + "\"";
  }
  case ListKind: {
    if (list->empty())
      return "[]";
    std::string out = "[";
    for (size_t i = 0; i < list->size(); ++i)
      out += (i ? comma : "") + newline(depth + 1) + (*list)[i].json(indent, depth + 1);
    return out + newline(depth) + "]";
  }
  case DictKind: {
    if (dict->empty())
      return "{}";
    std::string out = "{";
    for (size_t i = 0; i < dict->size(); ++i)
      out += (i ? comma : "") + newline(depth + 1) + Value::of((*dict)[i].first).json() + ": " +
             (*dict)[i].second.json(indent, depth + 1);
    return out + newline(depth) + "}";
  }
  }
  return "";
}

bool equal(const Value &a, const Value &b, unsigned depth) {
  if (depth > deepest)
    return false;
  if (a.isNumber() && b.isNumber())
    return a.isInteger() && b.isInteger() ? a.integer == b.integer : a.asDouble() == b.asDouble();
  if (a.kind != b.kind)
    return false;
  switch (a.kind) {
  case Value::String:
    return a.text == b.text;
  case Value::ListKind:
    if (a.list->size() != b.list->size())
      return false;
    for (size_t i = 0; i < a.list->size(); ++i)
      if (!equal((*a.list)[i], (*b.list)[i], depth + 1))
        return false;
    return true;
  case Value::DictKind:
    if (a.dict->size() != b.dict->size())
      return false;
    for (const auto &[k, v] : *a.dict) {
      const Value *other = b.find(k);
      if (!other || !equal(v, *other, depth + 1))
        return false;
    }
    return true;
  case Value::Callable:
    return a.macro == b.macro && a.text == b.text;
  default:
    return true;
  }
}

} // namespace quern::import::jinja
