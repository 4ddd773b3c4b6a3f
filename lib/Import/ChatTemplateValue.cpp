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
  account(v);
  for (auto &[k, old] : *dict)
    if (k == key) {
      old = std::move(v);
      return;
    }
  dict->emplace_back(key, std::move(v));
}

std::string Value::str() const {
  switch (kind) {
  case Undefined:
    return "";
  case String:
    return text;
  default:
    return repr();
  }
}

std::string Value::repr() const {
  std::string out;
  repr(out);
  return out;
}

static void quote(const std::string &text, std::string &out) {
  bool plain = text.find('\'') == std::string::npos || text.find('"') != std::string::npos;
  char mark = plain ? '\'' : '"';
  out += mark;
  for (char c : text) {
    if (c == '\n')
      out += "\\n";
    else if (c == '\t')
      out += "\\t";
    else if (c == '\r')
      out += "\\r";
    else if (c == '\\' || c == mark)
      (out += '\\') += c;
    else
      out += c;
  }
  out += mark;
}

void Value::repr(std::string &out) const {
  if (out.size() > longest)
    return;
  switch (kind) {
  case Undefined:
    out += "Undefined";
    break;
  case None:
    out += "None";
    break;
  case Bool:
    out += integer ? "True" : "False";
    break;
  case Int:
    out += std::to_string(integer);
    break;
  case Float:
    out += quern::import::jinja::number(number);
    break;
  case String:
    quote(text, out);
    break;
  case ListKind:
    out += '[';
    for (size_t i = 0; i < list->size() && out.size() <= longest; ++i) {
      out += i ? ", " : "";
      (*list)[i].repr(out);
    }
    out += ']';
    break;
  case DictKind:
    out += '{';
    for (size_t i = 0; i < dict->size() && out.size() <= longest; ++i) {
      out += i ? ", " : "";
      quote((*dict)[i].first, out);
      out += ": ";
      (*dict)[i].second.repr(out);
    }
    out += '}';
    break;
  case Callable:
    out += "<function>";
    break;
  }
}

std::string Value::json(int indent) const {
  std::string out;
  json(out, indent, 0);
  return out;
}

static void jsonText(const std::string &text, std::string &out) {
  out += '"';
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
  out += '"';
}

void Value::json(std::string &out, int indent, unsigned depth) const {
  if (out.size() > longest)
    return;
  auto newline = [&](unsigned level) {
    if (indent >= 0)
      (out += '\n').append(size_t(indent) * level, ' ');
  };
  const char *comma = indent < 0 ? ", " : ",";
  switch (kind) {
  case Undefined:
  case None:
  case Callable:
    out += "null";
    break;
  case Bool:
    out += integer ? "true" : "false";
    break;
  case Int:
  case Float:
    repr(out);
    break;
  case String:
    jsonText(text, out);
    break;
  case ListKind:
    out += '[';
    for (size_t i = 0; i < list->size() && out.size() <= longest; ++i) {
      out += i ? comma : "";
      newline(depth + 1);
      (*list)[i].json(out, indent, depth + 1);
    }
    if (!list->empty())
      newline(depth);
    out += ']';
    break;
  case DictKind:
    out += '{';
    for (size_t i = 0; i < dict->size() && out.size() <= longest; ++i) {
      out += i ? comma : "";
      newline(depth + 1);
      jsonText((*dict)[i].first, out);
      out += ": ";
      (*dict)[i].second.json(out, indent, depth + 1);
    }
    if (!dict->empty())
      newline(depth);
    out += '}';
    break;
  }
}

bool equal(const Value &a, const Value &b, uint64_t &budget) {
  uint64_t work = 1 + a.text.size() / 64; // a dict's keys are looked for one by one
  if (a.kind == Value::DictKind)
    work += a.dict->size() * a.dict->size() / 8;
  if (work > budget) {
    budget = 0;
    return false;
  }
  budget -= work;
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
      if (!equal((*a.list)[i], (*b.list)[i], budget))
        return false;
    return true;
  case Value::DictKind:
    if (a.dict->size() != b.dict->size())
      return false;
    for (const auto &[k, v] : *a.dict) {
      const Value *other = b.find(k);
      if (!other || !equal(v, *other, budget))
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
