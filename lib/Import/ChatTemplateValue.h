//===- ChatTemplateValue.h - Values of the template language ----*- C++ -*-===//
//
// The few types that chat templates compute with, as Jinja defines them.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_IMPORT_CHATTEMPLATEVALUE_H
#define QUERN_LIB_IMPORT_CHATTEMPLATEVALUE_H

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace quern::import::jinja {

struct Value;
using List = std::vector<Value>;
using Dict = std::vector<std::pair<std::string, Value>>; ///< in order of insertion
struct Macro;
struct Arguments;

struct Value {
  enum Kind { Undefined, None, Bool, Int, Float, String, ListKind, DictKind, Callable };
  Kind kind = Undefined;
  bool isNamespace = false; ///< a dict whose attributes may be set
  int64_t integer = 0;      ///< Int, Bool
  double number = 0;
  std::string text; ///< String; Undefined: what it would have been called
  std::shared_ptr<List> list;
  std::shared_ptr<Dict> dict;
  const Macro *macro = nullptr; ///< Callable: a macro, or a builtin of the name in `text`
  unsigned nesting = 0;         ///< of lists and dicts; too small by one namespace's at most
  uint64_t weight = 0;          ///< elements and the texts in them, in units of 16 bytes

  static Value undefined(std::string name) {
    Value v;
    v.text = std::move(name);
    return v;
  }
  static Value none() {
    Value v;
    v.kind = None;
    return v;
  }
  static Value boolean(bool b) {
    Value v;
    v.kind = Bool;
    v.integer = b;
    return v;
  }
  static Value of(int64_t i) {
    Value v;
    v.kind = Int;
    v.integer = i;
    return v;
  }
  static Value of(double d) {
    Value v;
    v.kind = Float;
    v.number = d;
    return v;
  }
  static Value of(std::string s) {
    Value v;
    v.kind = String;
    v.text = std::move(s);
    return v;
  }
  static Value of(List l) {
    Value v;
    v.kind = ListKind;
    for (const Value &item : l)
      v.account(item);
    v.list = std::make_shared<List>(std::move(l));
    return v;
  }
  static Value of(Dict d) {
    Value v;
    v.kind = DictKind;
    for (const auto &[key, item] : d)
      v.account(item);
    v.dict = std::make_shared<Dict>(std::move(d));
    return v;
  }
  static Value builtin(std::string name) {
    Value v;
    v.kind = Callable;
    v.text = std::move(name);
    return v;
  }

  bool isString() const { return kind == String; }
  bool isInteger() const { return kind == Int || kind == Bool; }
  bool isNumber() const { return isInteger() || kind == Float; }
  double asDouble() const { return kind == Float ? number : double(integer); }
  bool truthy() const;
  /// The entry of a dict, or null.
  const Value *find(const std::string &key) const;
  void set(const std::string &key, Value v);
  /// As Jinja prints it. Lists may share elements and so print exponentially long: all of these
  /// stop a little beyond `longest`.
  std::string str() const;
  std::string repr() const;
  /// As the filter tojson prints it; `indent` < 0: on one line.
  std::string json(int indent = -1) const;
  static constexpr size_t longest = 2 << 20;

private:
  void account(const Value &item) {
    nesting = std::max(nesting, item.nesting + 1);
    weight += 1 + item.text.size() / 16;
  }
  void repr(std::string &out) const;
  void json(std::string &out, int indent, unsigned depth) const;
};

/// Takes the comparisons off `budget`; false when it is spent.
bool equal(const Value &a, const Value &b, uint64_t &budget);

} // namespace quern::import::jinja

#endif // QUERN_LIB_IMPORT_CHATTEMPLATEVALUE_H
