//===- ChatTemplateEvaluate.cpp - Expressions of chat templates -----------===//
//
// Names, calls, indices, slices and operators over the tree. Bounded in work, depth and size,
// because templates come with model files.
//
//===----------------------------------------------------------------------===//
#include "ChatTemplateRender.h"
#include <cmath>

using namespace llvm;

namespace quern::import::jinja {

const Value *Arguments::get(size_t place, StringRef name) const {
  for (const auto &[k, v] : named)
    if (k == name)
      return &v;
  return place < positional.size() ? &positional[place] : nullptr;
}

Value Interpreter::lookUp(const std::string &name) {
  for (auto scope = scopes.rbegin(); scope != scopes.rend(); ++scope)
    if (auto it = scope->find(name); it != scope->end())
      return it->second;
  if (name == "raise_exception" || name == "namespace" || name == "range" || name == "dict" ||
      name == "strftime_now_placeholder")
    return Value::builtin(name);
  return Value::undefined(name);
}

bool Interpreter::collect(const Expr &e, size_t from, Arguments &arguments) {
  for (size_t i = from; i < e.items.size() && !failed(); ++i)
    arguments.positional.push_back(evaluate(*e.items[i]));
  for (const auto &[name, value] : e.named)
    if (!failed())
      arguments.named.emplace_back(name, evaluate(*value));
  return !failed();
}

Value Interpreter::call(const Expr &e) {
  const Expr &target = *e.items[0];
  Arguments arguments;
  if (target.kind == Expr::Attribute) { // a method, unless a dict holds a function of that name
    Value self = evaluate(*target.items[0]);
    if (failed() || !spend(weight(self)) || !collect(e, 1, arguments))
      return {};
    line = e.line;
    return callMethod(self, target.text, arguments);
  }
  Value function = evaluate(target);
  if (failed() || !collect(e, 1, arguments))
    return {};
  line = e.line;
  if (function.kind == Value::Undefined)
    return fail("'" + function.text + "' is undefined");
  if (function.kind != Value::Callable)
    return fail("'" + function.str() + "' cannot be called");
  return function.macro ? callMacro(*function.macro, arguments)
                        : callBuiltin(function.text, arguments);
}

Value Interpreter::attribute(const Value &object, const std::string &name) {
  if (object.kind == Value::Undefined)
    return fail("'" + object.text + "' is undefined");
  if (object.kind == Value::DictKind && !spend(object.dict->size() / 8))
    return {};
  if (const Value *v = object.find(name))
    return *v;
  return Value::undefined(name);
}

Value Interpreter::index(const Value &object, const Value &key) {
  if (object.kind == Value::Undefined)
    return fail("'" + object.text + "' is undefined");
  if (object.kind == Value::DictKind)
    return key.isString() ? attribute(object, key.text) : Value::undefined(key.str());
  if ((object.kind == Value::ListKind || object.isString()) && key.isInteger()) {
    List items;
    if (!iterate(object, items))
      return {};
    int64_t i = key.integer < 0 ? key.integer + int64_t(items.size()) : key.integer;
    return i >= 0 && i < int64_t(items.size()) ? items[i] : Value::undefined(key.str());
  }
  return Value::undefined(key.str());
}

Value Interpreter::slice(const Value &object, const Expr &e) {
  if (object.kind != Value::ListKind && !object.isString())
    return fail("only lists and strings have slices");
  List items, out;
  if (!iterate(object, items))
    return {};
  auto count = static_cast<int64_t>(items.size());
  auto part = [&](size_t i, int64_t missing) {
    if (!e.items[i])
      return missing;
    Value v = evaluate(*e.items[i]);
    if (v.kind == Value::None)
      return missing;
    if (!v.isInteger())
      fail("a slice needs whole numbers");
    return v.integer;
  };
  int64_t step = part(3, 1);
  if (failed() || step == 0)
    return fail("a slice's step cannot be zero");
  bool back = step < 0;
  step = std::clamp<int64_t>(step, -count - 1, count + 1);
  int64_t begin = part(1, back ? count - 1 : 0), end = part(2, back ? -count - 1 : count);
  auto place = [&](int64_t i) {
    return std::clamp<int64_t>(i < 0 ? std::max<int64_t>(i, -count - 1) + count : i, back ? -1 : 0,
                               back ? count - 1 : count);
  };
  begin = place(begin);
  end = place(end);
  for (int64_t i = begin; back ? i > end : i < end; i += step)
    out.push_back(items[i]);
  if (!object.isString())
    return Value::of(std::move(out));
  std::string text;
  for (const Value &v : out)
    text += v.text;
  return Value::of(text);
}

Value Interpreter::binary(const Expr &e) {
  StringRef op = e.text;
  Value a = evaluate(*e.items[0]);
  if (failed())
    return {};
  if (op == "and" || op == "or")
    return a.truthy() == (op == "or") ? a : evaluate(*e.items[1]);
  Value b = evaluate(*e.items[1]);
  if (failed() || !spend(weight(a) + weight(b)))
    return {};
  line = e.line;
  if (op == "==" || op == "!=")
    return Value::boolean(equal(a, b) == (op == "=="));
  if (op == "in" || op == "not in") {
    bool found = false;
    if (b.isString()) {
      if (!a.isString())
        return fail("'in' a string needs a string");
      if (!spendSearch(b.text, a.text))
        return {};
      found = b.text.find(a.text) != std::string::npos;
    } else {
      List items;
      if (!iterate(b, items))
        return {};
      for (const Value &v : items)
        found |= equal(a, v);
    }
    return Value::boolean(found == (op == "in"));
  }
  if (op == "~")
    return sized(a.str() + b.str());
  for (const Value *v : {&a, &b})
    if (v->kind == Value::Undefined)
      return fail("'" + v->text + "' is undefined");
  if (op == "<" || op == ">" || op == "<=" || op == ">=") {
    int order;
    if (a.isNumber() && b.isNumber())
      order = a.asDouble() < b.asDouble() ? -1 : a.asDouble() > b.asDouble();
    else if (a.isString() && b.isString())
      order = a.text.compare(b.text);
    else
      return fail("'" + a.str() + "' and '" + b.str() + "' cannot be ordered");
    return Value::boolean(op == "<"    ? order < 0
                          : op == ">"  ? order > 0
                          : op == "<=" ? order <= 0
                                       : order >= 0);
  }
  if (op == "+" && a.isString() && b.isString())
    return sized(a.text + b.text);
  if (op == "+" && a.kind == Value::ListKind && b.kind == Value::ListKind) {
    List out = *a.list;
    out.insert(out.end(), b.list->begin(), b.list->end());
    if (out.size() > maxItems)
      return fail("a list grows too long");
    return Value::of(std::move(out));
  }
  if (op == "*" && a.isString() && b.isInteger()) {
    auto times = static_cast<uint64_t>(std::max<int64_t>(0, b.integer));
    if (!a.text.empty() && times > maxText / a.text.size())
      return fail("a string grows beyond 1 MiB");
    std::string out;
    for (uint64_t i = 0; i < times && !a.text.empty(); ++i)
      out += a.text;
    return Value::of(out);
  }
  if (!a.isNumber() || !b.isNumber())
    return fail("'" + op.str() + "' does not apply to '" + a.str() + "' and '" + b.str() + "'");
  if (a.isInteger() && b.isInteger() && op != "/" && op != "**") {
    int64_t x = a.integer, y = b.integer, out = 0;
    bool overflow = false;
    if (op == "+")
      overflow = __builtin_add_overflow(x, y, &out);
    else if (op == "-")
      overflow = __builtin_sub_overflow(x, y, &out);
    else if (op == "*")
      overflow = __builtin_mul_overflow(x, y, &out);
    else if (y == 0 || (x == INT64_MIN && y == -1))
      return fail("division by zero");
    else if (op == "//")
      out = x / y - (x % y != 0 && (x < 0) != (y < 0));
    else if ((out = x % y) != 0 && (out < 0) != (y < 0))
      out += y; // the remainder has the sign of the divisor
    return overflow ? fail("a number grows too large") : Value::of(out);
  }
  double x = a.asDouble(), y = b.asDouble();
  if ((op == "/" || op == "//" || op == "%") && y == 0)
    return fail("division by zero");
  if (op == "+")
    return Value::of(x + y);
  if (op == "-")
    return Value::of(x - y);
  if (op == "*")
    return Value::of(x * y);
  if (op == "/")
    return Value::of(x / y);
  if (op == "//")
    return Value::of(std::floor(x / y));
  if (op == "%")
    return Value::of(x - y * std::floor(x / y));
  double p = std::pow(x, y);
  return a.isInteger() && b.isInteger() && y >= 0 && std::fabs(p) < 9e15 ? Value::of(int64_t(p))
                                                                         : Value::of(p);
}

Value Interpreter::evaluate(const Expr &e) {
  if (failed())
    return {};
  if (!spend(1))
    return {};
  if (depth > 400)
    return fail("the template recurses too deeply");
  ++depth;
  Value out;
  switch (e.kind) {
  case Expr::Literal:
    out = e.value;
    break;
  case Expr::Name:
    if (spend(scopes.size() / 8))
      out = lookUp(e.text);
    break;
  case Expr::ListLit: {
    List items;
    for (const ExprPtr &item : e.items)
      items.push_back(evaluate(*item));
    out = Value::of(std::move(items));
    break;
  }
  case Expr::DictLit: {
    Value dict = Value::of(Dict());
    for (size_t i = 0; i + 1 < e.items.size() && spend(dict.dict->size() / 8); i += 2)
      dict.set(evaluate(*e.items[i]).str(), evaluate(*e.items[i + 1]));
    out = dict;
    break;
  }
  case Expr::Unary: {
    Value v = evaluate(*e.items[0]);
    if (failed())
      break;
    if (e.text == "not")
      out = Value::boolean(!v.truthy());
    else if (v.isInteger() && v.integer != INT64_MIN)
      out = Value::of(e.text == "-" ? -v.integer : v.integer);
    else if (v.kind == Value::Float)
      out = Value::of(e.text == "-" ? -v.number : v.number);
    else
      fail("'" + e.text + "' needs a number");
    break;
  }
  case Expr::Binary:
    out = binary(e);
    break;
  case Expr::Condition: {
    Value test = evaluate(*e.items[1]);
    if (failed())
      break;
    if (test.truthy())
      out = evaluate(*e.items[0]);
    else if (e.items[2])
      out = evaluate(*e.items[2]);
    break;
  }
  case Expr::Attribute: {
    Value object = evaluate(*e.items[0]);
    if (!failed()) {
      line = e.line;
      out = attribute(object, e.text);
    }
    break;
  }
  case Expr::Index: {
    Value object = evaluate(*e.items[0]);
    Value key = evaluate(*e.items[1]);
    if (!failed()) {
      line = e.line;
      out = index(object, key);
    }
    break;
  }
  case Expr::Slice: {
    Value object = evaluate(*e.items[0]);
    if (!failed()) {
      line = e.line;
      out = slice(object, e);
    }
    break;
  }
  case Expr::Call:
    out = call(e);
    break;
  case Expr::Filter:
  case Expr::Test: {
    Value input = evaluate(*e.items[0]);
    Arguments arguments;
    if (failed() || !spend(weight(input)) || !collect(e, 1, arguments))
      break;
    line = e.line;
    out = e.kind == Expr::Filter ? applyFilter(e.text, input, arguments)
                                 : Value::boolean(applyTest(e.text, input, arguments));
    break;
  }
  }
  --depth;
  // A copy of a text costs what it has; and destructors recurse into what is nested.
  if (!spend(out.text.size() / 16))
    return {};
  if (out.nesting > maxNesting)
    return fail("a value is nested too deeply");
  return out;
}

} // namespace quern::import::jinja
