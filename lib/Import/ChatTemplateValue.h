//===- ChatTemplateValue.h - Values of the template language ----*- C++ -*-===//
//
// The few types that chat templates compute with, as Jinja defines them.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_IMPORT_CHATTEMPLATEVALUE_H
#define QUERN_LIB_IMPORT_CHATTEMPLATEVALUE_H

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
    v.list = std::make_shared<List>(std::move(l));
    return v;
  }
  static Value of(Dict d) {
    Value v;
    v.kind = DictKind;
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
  /// As Jinja prints it. `depth` bounds nesting.
  std::string str(unsigned depth = 0) const;
  std::string repr(unsigned depth = 0) const;
  /// As the filter tojson prints it; `indent` < 0: on one line.
  std::string json(int indent = -1, unsigned depth = 0) const;
};

bool equal(const Value &a, const Value &b, unsigned depth = 0);

} // namespace quern::import::jinja

#endif // QUERN_LIB_IMPORT_CHATTEMPLATEVALUE_H
