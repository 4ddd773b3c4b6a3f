//===- ChatTemplateRender.h - The interpreter's state -----------*- C++ -*-===//
//
// Private to the interpreter: scopes, bounds and the first error.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_IMPORT_CHATTEMPLATERENDER_H
#define QUERN_LIB_IMPORT_CHATTEMPLATERENDER_H

#include "ChatTemplateAst.h"
#include "quern/Support/Printable.h"
#include "llvm/Support/JSON.h"

namespace quern::import::jinja {

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
  /// The argument at this place or of this name, or null.
  const Value *get(size_t place, llvm::StringRef name) const;
};

class Interpreter {
public:
  /// Takes its work off `budget`.
  explicit Interpreter(uint64_t &budget) : budget(budget) {}

  using Scope = std::map<std::string, Value>;
  std::vector<Scope> scopes;
  std::string problem; ///< the first error; everything stops at it

  bool run(const Block &block, std::string &out);
  Value evaluate(const Expr &e);

  // Builtins (ChatTemplateBuiltins.cpp).
  Value callBuiltin(const std::string &name, const Arguments &arguments);
  Value callMethod(const Value &self, const std::string &name, const Arguments &arguments);
  Value applyFilter(const std::string &name, const Value &input, const Arguments &arguments);
  bool applyTest(const std::string &name, const Value &input, const Arguments &arguments);
  Value attribute(const Value &object, const std::string &name);

  Value fail(const llvm::Twine &message) {
    if (problem.empty()) {
      std::string text = printable(message.str()); // may quote what the template made
      problem = "line " + std::to_string(line) + ": " +
                (text.size() > 200 ? llvm::json::fixUTF8(text.substr(0, 200)) + "..." : text);
    }
    return {};
  }
  bool failed() const { return !problem.empty(); }
  /// Strings and lists may not grow without bound.
  Value sized(std::string s) {
    spend(s.size() / 16);
    if (s.size() > maxText)
      return fail("a string grows beyond 1 MiB");
    return Value::of(std::move(s));
  }
  /// The elements a loop would visit; false if it cannot be looped over.
  bool iterate(const Value &v, List &out);

  static constexpr size_t maxText = 1 << 20, maxItems = 100000;
  static constexpr unsigned maxNesting = 100;
  /// About what it costs to walk or copy a value (not what its elements hold in turn).
  static uint64_t weight(const Value &v) { return v.weight + v.text.size() / 16; }
  /// Counts work; beyond a bound the template is refused.
  bool spend(uint64_t work) {
    if (work > budget)
      fail("the template does not come to an end");
    budget -= std::min(work, budget);
    return !failed();
  }
  /// Looking for one text in another may compare at every place.
  bool spendSearch(const std::string &text, const std::string &part) {
    return spend((text.size() / 16 + 1) * (part.size() / 64 + 1));
  }
  bool equal(const Value &a, const Value &b) {
    bool same = jinja::equal(a, b, budget);
    spend(0);
    return same;
  }

private:
  enum Flow { Normal, BreakLoop, ContinueLoop };
  Flow flow = Normal;
  unsigned line = 0, depth = 0;
  uint64_t &budget;

  bool statement(const Node &node, std::string &out);
  bool loop(const Node &node, std::string &out);
  bool assign(const Node &node);
  bool bind(const std::vector<std::string> &names, const Value &value, Scope &scope);
  bool holdsNamespace(const Value &v);
  Value lookUp(const std::string &name);
  Value binary(const Expr &e);
  Value index(const Value &object, const Value &key);
  Value slice(const Value &object, const Expr &e);
  Value call(const Expr &e);
  Value callMacro(const Macro &macro, const Arguments &arguments);
  bool collect(const Expr &e, size_t from, Arguments &arguments);
};

} // namespace quern::import::jinja

#endif // QUERN_LIB_IMPORT_CHATTEMPLATERENDER_H
