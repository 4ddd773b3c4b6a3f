//===- ChatTemplateRender.cpp - Interpreting chat templates ---------------===//
//
// Statements over the tree; expressions are ChatTemplateEvaluate.cpp's. Bounded in work, depth
// and size, because templates come with model files.
//
//===----------------------------------------------------------------------===//
#include "ChatTemplateRender.h"

using namespace llvm;

namespace quern::import::jinja {

bool Interpreter::iterate(const Value &v, List &out) {
  if (!spend(v.isString() ? v.text.size() : weight(v)))
    return false;
  switch (v.kind) {
  case Value::Undefined:
    return true;
  case Value::ListKind:
    out = *v.list;
    return true;
  case Value::DictKind:
    for (const auto &[k, unused] : *v.dict)
      out.push_back(Value::of(k));
    return true;
  case Value::String:
    for (size_t i = 0; i < v.text.size();) {
      size_t n = 1; // one character, not one byte
      while (i + n < v.text.size() && (v.text[i + n] & 0xC0) == 0x80)
        ++n;
      out.push_back(Value::of(v.text.substr(i, n)));
      i += n;
    }
    return true;
  default:
    fail("'" + v.str() + "' cannot be looped over");
    return false;
  }
}

bool Interpreter::bind(const std::vector<std::string> &names, const Value &value, Scope &scope) {
  if (names.size() == 1) {
    scope[names[0]] = value;
    return true;
  }
  List parts;
  if (!iterate(value, parts))
    return false;
  if (parts.size() != names.size()) {
    fail("cannot unpack " + Twine(parts.size()) + " values into " + Twine(names.size()) + " names");
    return false;
  }
  for (size_t i = 0; i < names.size(); ++i)
    scope[names[i]] = parts[i];
  return true;
}

bool Interpreter::run(const Block &block, std::string &out) {
  if (++depth > 100) {
    fail("the template recurses too deeply");
    return false;
  }
  for (const auto &node : block) {
    if (!statement(*node, out))
      return false;
    if (flow != Normal)
      break;
  }
  --depth;
  return true;
}

bool Interpreter::statement(const Node &node, std::string &out) {
  if (node.line)
    line = node.line;
  if (!spend(1))
    return false;
  switch (node.kind) {
  case Node::Text:
    out += node.text;
    break;
  case Node::Output: {
    std::string text = evaluate(*node.a).str();
    if (text.size() > maxText || !spend(text.size() / 16)) {
      fail("a string grows beyond 1 MiB");
      return false;
    }
    out += text;
    break;
  }
  case Node::If: {
    Value test = evaluate(*node.a);
    return !failed() && run(test.truthy() ? node.body : node.otherwise, out);
  }
  case Node::For:
    return loop(node, out);
  case Node::Set:
    return assign(node);
  case Node::MacroDef: {
    Value v = Value::builtin(node.macro.name);
    v.macro = &node.macro;
    scopes.back()[node.macro.name] = v;
    break;
  }
  case Node::Break:
    flow = BreakLoop;
    break;
  case Node::Continue:
    flow = ContinueLoop;
    break;
  }
  if (out.size() > 4 * maxText)
    fail("the output grows beyond 4 MiB");
  return !failed();
}

/// Whether a value is or holds a namespace or a function, as far as the work may be afforded.
bool Interpreter::holdsNamespace(const Value &v) {
  if (v.isNamespace || v.kind == Value::Callable || !spend(1))
    return true;
  if (v.kind == Value::ListKind)
    for (const Value &item : *v.list)
      if (holdsNamespace(item))
        return true;
  if (v.kind == Value::DictKind)
    for (const auto &[k, item] : *v.dict)
      if (holdsNamespace(item))
        return true;
  return false;
}

bool Interpreter::assign(const Node &node) {
  Value value;
  if (node.a) {
    value = evaluate(*node.a);
  } else {
    std::string text;
    scopes.emplace_back();
    bool ok = run(node.body, text);
    scopes.pop_back();
    if (!ok)
      return false;
    value = sized(std::move(text));
  }
  if (failed())
    return false;
  if (node.text.empty())
    return bind(node.names, value, scopes.back());
  Value target = lookUp(node.names[0]);
  if (!target.isNamespace) {
    fail("'" + node.names[0] + "' is not a namespace");
    return false;
  }
  // Namespaces hold plain data, so that no value can contain itself.
  if (holdsNamespace(value)) {
    fail("a namespace cannot hold a namespace or a function");
    return false;
  }
  if (!spend(target.dict->size() / 8))
    return false;
  target.set(node.text, value);
  return true;
}

bool Interpreter::loop(const Node &node, std::string &out) {
  Value over = evaluate(*node.a);
  List items;
  if (failed() || !iterate(over, items))
    return false;
  scopes.emplace_back();
  if (node.b) { // keep what passes the filter first: the loop's length counts those
    List kept;
    for (const Value &v : items) {
      if (!bind(node.names, v, scopes.back()))
        return false;
      Value test = evaluate(*node.b);
      if (failed())
        return false;
      if (test.truthy())
        kept.push_back(v);
    }
    items = std::move(kept);
  }
  bool ok = true;
  auto count = static_cast<int64_t>(items.size());
  for (int64_t i = 0; ok && i < count; ++i) {
    scopes.back().clear();
    Dict state = {{"index", Value::of(i + 1)},        {"index0", Value::of(i)},
                  {"revindex", Value::of(count - i)}, {"revindex0", Value::of(count - i - 1)},
                  {"first", Value::boolean(i == 0)},  {"last", Value::boolean(i + 1 == count)},
                  {"length", Value::of(count)},       {"depth", Value::of(int64_t(1))}};
    if (i > 0)
      state.emplace_back("previtem", items[i - 1]);
    if (i + 1 < count)
      state.emplace_back("nextitem", items[i + 1]);
    scopes.back()["loop"] = Value::of(std::move(state));
    ok = bind(node.names, items[i], scopes.back()) && run(node.body, out);
    if (flow == BreakLoop) {
      flow = Normal;
      break;
    }
    flow = Normal;
  }
  if (ok && items.empty())
    ok = run(node.otherwise, out);
  scopes.pop_back();
  return ok;
}

Value Interpreter::callMacro(const Macro &macro, const Arguments &arguments) {
  // A macro sees the template's own variables, not those of its caller.
  std::vector<Scope> caller(std::make_move_iterator(scopes.begin() + 2),
                            std::make_move_iterator(scopes.end()));
  scopes.resize(2);
  scopes.emplace_back();
  std::string text;
  bool ok = true;
  for (size_t i = 0; ok && i < macro.parameters.size(); ++i) {
    const auto &[name, initial] = macro.parameters[i];
    if (const Value *v = arguments.get(i, name))
      scopes.back()[name] = *v;
    else
      scopes.back()[name] = initial ? evaluate(*initial) : Value::undefined(name);
    ok = !failed();
  }
  Flow saved = flow;
  flow = Normal;
  ok = ok && run(macro.body, text);
  flow = saved;
  scopes.resize(2);
  scopes.insert(scopes.end(), std::make_move_iterator(caller.begin()),
                std::make_move_iterator(caller.end()));
  return ok ? sized(std::move(text)) : Value();
}

Expected<std::string> render(const Block &program,
                             const std::vector<std::pair<std::string, Value>> &variables,
                             uint64_t &budget) {
  Interpreter interpreter(budget);
  interpreter.scopes.resize(2); // what is given, and what the template sets
  for (const auto &[name, value] : variables)
    interpreter.scopes[0][name] = value;
  std::string out;
  if (!interpreter.run(program, out) || interpreter.failed())
    return createStringError(interpreter.problem);
  return out;
}

} // namespace quern::import::jinja
