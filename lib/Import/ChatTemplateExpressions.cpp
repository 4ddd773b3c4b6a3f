//===- ChatTemplateExpressions.cpp - The expressions of chat templates ----===//
//
// One function per precedence, loosest first.
//
//===----------------------------------------------------------------------===//
#include "ChatTemplateParser.h"
#include "llvm/ADT/STLExtras.h"

using namespace llvm;

namespace quern::import::jinja {

ExprPtr Parser::make(Expr::Kind kind, StringRef text) {
  auto e = std::make_unique<Expr>();
  e->kind = kind;
  e->text = text.str();
  e->line = peek().line;
  return e;
}

void Parser::adopt(Expr &parent, ExprPtr child) {
  if (child && (parent.height = std::max(parent.height, child->height + 1)) > maxHeight)
    fail("an expression is too long");
  parent.items.push_back(std::move(child));
}

void Parser::adopt(Expr &parent, std::string key, ExprPtr child) {
  if ((parent.height = std::max(parent.height, child->height + 1)) > maxHeight)
    fail("an expression is too long");
  parent.named.emplace_back(std::move(key), std::move(child));
}

ExprPtr Parser::binary(StringRef op, ExprPtr a, ExprPtr b) {
  if (!a || !b)
    return nullptr;
  ExprPtr e = make(Expr::Binary, op);
  adopt(*e, std::move(a));
  adopt(*e, std::move(b));
  return checked(std::move(e));
}

ExprPtr Parser::tupleExpression() {
  ExprPtr first = expression();
  if (!first || !isSymbol(","))
    return first;
  ExprPtr list = make(Expr::ListLit);
  adopt(*list, std::move(first));
  while (take(",")) {
    ExprPtr next = expression();
    if (!next)
      return nullptr;
    adopt(*list, std::move(next));
  }
  return list;
}

ExprPtr Parser::expression() {
  if (++depth > maxDepth) {
    fail("expressions are nested too deeply");
    return nullptr;
  }
  ExprPtr e = orExpression();
  while (e && take("if")) {
    ExprPtr condition = make(Expr::Condition);
    adopt(*condition, std::move(e));
    ExprPtr test = orExpression();
    if (!test)
      return nullptr;
    adopt(*condition, std::move(test));
    ExprPtr otherwise;
    if (take("else") && !(otherwise = expression()))
      return nullptr;
    adopt(*condition, std::move(otherwise));
    e = checked(std::move(condition));
  }
  --depth;
  return e;
}

ExprPtr Parser::orExpression() {
  ExprPtr e = andExpression();
  while (e && take("or"))
    e = binary("or", std::move(e), andExpression());
  return e;
}

ExprPtr Parser::andExpression() {
  ExprPtr e = notExpression();
  while (e && take("and"))
    e = binary("and", std::move(e), notExpression());
  return e;
}

ExprPtr Parser::notExpression() {
  if (!take("not"))
    return comparison();
  if (++depth > maxDepth) {
    fail("expressions are nested too deeply");
    return nullptr;
  }
  ExprPtr inner = notExpression();
  --depth;
  if (!inner)
    return nullptr;
  ExprPtr e = make(Expr::Unary, "not");
  adopt(*e, std::move(inner));
  return e;
}

ExprPtr Parser::comparison() {
  ExprPtr e = sum();
  while (e) {
    StringRef op;
    for (StringRef known : {"==", "!=", "<=", ">=", "<", ">", "in"})
      if (isSymbol(known) || isWord(known))
        op = known;
    if (!op.empty()) {
      ++at;
    } else if (isWord("not") && peek(1).kind == Token::Word && peek(1).text == "in") {
      at += 2;
      op = "not in";
    } else {
      break;
    }
    e = binary(op, std::move(e), sum());
  }
  return e;
}

ExprPtr Parser::sum() {
  ExprPtr e = concatenation();
  while (e && (isSymbol("+") || isSymbol("-"))) {
    std::string op = tokens[at++].text;
    e = binary(op, std::move(e), concatenation());
  }
  return e;
}

ExprPtr Parser::concatenation() {
  ExprPtr e = product();
  while (e && take("~"))
    e = binary("~", std::move(e), product());
  return e;
}

ExprPtr Parser::product() {
  ExprPtr e = power();
  while (e && (isSymbol("*") || isSymbol("/") || isSymbol("//") || isSymbol("%"))) {
    std::string op = tokens[at++].text;
    e = binary(op, std::move(e), power());
  }
  return e;
}

ExprPtr Parser::power() {
  ExprPtr e = unary();
  while (e && take("**"))
    e = binary("**", std::move(e), unary());
  return e;
}

ExprPtr Parser::unary(bool withFilters) {
  ExprPtr e;
  if (isSymbol("-") || isSymbol("+")) {
    if (++depth > maxDepth) {
      fail("expressions are nested too deeply");
      return nullptr;
    }
    e = make(Expr::Unary, tokens[at++].text);
    ExprPtr inner = unary(false);
    --depth;
    if (!inner)
      return nullptr;
    adopt(*e, std::move(inner));
  } else {
    e = postfix(primary());
  }
  return withFilters ? filters(std::move(e)) : std::move(e);
}

ExprPtr Parser::number() {
  const Token t = tokens[at++];
  ExprPtr e = make(Expr::Literal);
  std::string digits = t.text;
  llvm::erase(digits, '_');
  int64_t i = 0;
  double d = 0;
  if (t.kind == Token::Integer && !StringRef(digits).getAsInteger(10, i))
    e->value = Value::of(i);
  else if (t.kind == Token::Float && !StringRef(digits).getAsDouble(d))
    e->value = Value::of(d);
  else
    fail("bad number '" + t.text + "'");
  return checked(std::move(e));
}

/// Expressions up to `close`; whether a comma came after any.
bool Parser::elements(Expr &e, StringRef close, bool &comma) {
  comma = false;
  while (!isSymbol(close)) {
    ExprPtr item = expression();
    if (!item)
      return false;
    adopt(e, std::move(item));
    if (!take(","))
      break;
    comma = true;
  }
  return expect(close) && problem.empty();
}

ExprPtr Parser::primary() {
  const Token t = peek();
  if (t.kind == Token::Integer || t.kind == Token::Float)
    return number();
  ExprPtr e = make(Expr::Literal);
  if (t.kind == Token::String) {
    std::string text;
    while (peek().kind == Token::String) // adjacent literals join
      text += tokens[at++].text;
    e->value = Value::of(text);
    return e;
  }
  if (t.kind == Token::Word) {
    ++at;
    if (t.text == "true" || t.text == "True")
      e->value = Value::boolean(true);
    else if (t.text == "false" || t.text == "False")
      e->value = Value::boolean(false);
    else if (t.text == "none" || t.text == "None")
      e->value = Value::none();
    else {
      e->kind = Expr::Name;
      e->text = t.text;
    }
    return e;
  }
  bool comma = false;
  if (take("(")) {
    e->kind = Expr::ListLit; // a tuple, unless it turns out to be a grouping
    if (!elements(*e, ")", comma))
      return nullptr;
    return comma || e->items.empty() ? std::move(e) : std::move(e->items[0]);
  }
  if (take("[")) {
    e->kind = Expr::ListLit;
    return elements(*e, "]", comma) ? std::move(e) : nullptr;
  }
  if (take("{")) {
    e->kind = Expr::DictLit;
    while (!isSymbol("}")) {
      ExprPtr key = expression();
      ExprPtr value = key && expect(":") ? expression() : nullptr;
      if (!value)
        return nullptr;
      adopt(*e, std::move(key));
      adopt(*e, std::move(value));
      if (!take(","))
        break;
    }
    return expect("}") ? checked(std::move(e)) : nullptr;
  }
  fail("unexpected '" + t.text + "'");
  return nullptr;
}

bool Parser::arguments(Expr &e) {
  while (!take(")")) {
    if (peek().kind == Token::Word && peek(1).kind == Token::Symbol && peek(1).text == "=") {
      std::string key = peek().text;
      at += 2;
      ExprPtr value = expression();
      if (!value)
        return false;
      adopt(e, key, std::move(value));
    } else {
      ExprPtr value = expression();
      if (!value)
        return false;
      adopt(e, std::move(value));
    }
    if (!take(",") && !isSymbol(")"))
      return fail("expected ',' or ')', found '" + peek().text + "'");
  }
  return problem.empty();
}

ExprPtr Parser::subscript(ExprPtr e) {
  ExprPtr parts[3];
  bool slice = false;
  size_t part = 0;
  while (!isSymbol("]")) {
    if (take(":")) {
      slice = true;
      if (++part > 2) {
        fail("a slice has at most three parts");
        return nullptr;
      }
    } else if (parts[part] || !(parts[part] = expression())) {
      fail("bad subscript");
      return nullptr;
    }
  }
  ++at;
  ExprPtr out = make(slice ? Expr::Slice : Expr::Index);
  if (!slice && !parts[0]) {
    fail("an empty subscript");
    return nullptr;
  }
  adopt(*out, std::move(e));
  for (size_t i = 0; i < (slice ? 3u : 1u); ++i)
    adopt(*out, std::move(parts[i]));
  return out;
}

ExprPtr Parser::postfix(ExprPtr e) {
  while (e) {
    if (take(".")) {
      ExprPtr attribute = make(Expr::Attribute, peek().text);
      if (peek().kind == Token::Integer) { // x.0 is x[0]
        attribute->kind = Expr::Index;
        adopt(*attribute, std::move(e));
        ExprPtr index = primary();
        if (!index)
          return nullptr;
        adopt(*attribute, std::move(index));
        e = checked(std::move(attribute));
        continue;
      }
      if (peek().kind != Token::Word) {
        fail("expected an attribute, found '" + peek().text + "'");
        return nullptr;
      }
      ++at;
      adopt(*attribute, std::move(e));
      e = checked(std::move(attribute));
    } else if (take("[")) {
      e = subscript(std::move(e));
    } else if (take("(")) {
      ExprPtr call = make(Expr::Call);
      adopt(*call, std::move(e));
      if (!arguments(*call))
        return nullptr;
      e = checked(std::move(call));
    } else {
      break;
    }
  }
  return e;
}

ExprPtr Parser::filters(ExprPtr e) {
  while (e && (isSymbol("|") || isWord("is") || isSymbol("("))) {
    if (isSymbol("(")) { // a filter's result called
      ++at;
      ExprPtr call = make(Expr::Call);
      adopt(*call, std::move(e));
      if (!arguments(*call))
        return nullptr;
      e = checked(std::move(call));
      continue;
    }
    bool filter = tokens[at++].text == "|";
    bool negated = !filter && take("not");
    ExprPtr out = make(filter ? Expr::Filter : Expr::Test);
    if (!name(out->text))
      return nullptr;
    adopt(*out, std::move(e));
    if (take("(")) {
      if (!arguments(*out))
        return nullptr;
    } else if (!filter &&
               (peek().kind == Token::String || peek().kind == Token::Integer || isSymbol("[") ||
                (peek().kind == Token::Word && !isWord("else") && !isWord("and") && !isWord("or") &&
                 !isWord("if") && !isWord("is") && !isWord("in") && !isWord("not")))) {
      ExprPtr argument = postfix(primary()); // `x is divisibleby 3`
      if (!argument)
        return nullptr;
      adopt(*out, std::move(argument));
    }
    e = checked(std::move(out));
    if (e && negated) {
      ExprPtr no = make(Expr::Unary, "not");
      adopt(*no, std::move(e));
      e = checked(std::move(no));
    }
  }
  return e;
}

} // namespace quern::import::jinja
