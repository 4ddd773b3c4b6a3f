//===- ChatTemplateParse.cpp - Parsing chat templates ---------------------===//
//
// A tokenizer and a recursive-descent parser with Jinja's precedences.
//
//===----------------------------------------------------------------------===//
#include "ChatTemplateAst.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"

using namespace llvm;

namespace quern::import::jinja {

namespace {
struct Token {
  enum Kind { Text, OutputBegin, BlockBegin, End, Word, String, Integer, Float, Symbol, Eof };
  Kind kind;
  std::string text;
  unsigned line;
};

class Parser {
public:
  Expected<Block> run(StringRef source);

private:
  std::vector<Token> tokens;
  size_t at = 0;
  unsigned depth = 0;
  std::string problem;

  // Tokens.
  bool lex(StringRef source);
  bool lexInside(StringRef source, size_t &i, StringRef close, unsigned &line);
  const Token &peek(size_t ahead = 0) const {
    return tokens[std::min(at + ahead, tokens.size() - 1)];
  }
  bool isSymbol(StringRef s) const { return peek().kind == Token::Symbol && peek().text == s; }
  bool isWord(StringRef s) const { return peek().kind == Token::Word && peek().text == s; }
  bool take(StringRef s) {
    if (!isSymbol(s) && !isWord(s))
      return false;
    ++at;
    return true;
  }
  bool fail(const Twine &message) {
    if (problem.empty())
      problem = ("line " + Twine(peek().line) + ": " + message).str();
    return false;
  }
  bool expect(StringRef s) {
    return take(s) || fail("expected '" + s + "', found '" + peek().text + "'");
  }
  bool endTag() {
    if (peek().kind != Token::End)
      return fail("unexpected '" + peek().text + "' in a tag");
    ++at;
    return true;
  }

  // Statements.
  bool block(Block &out, ArrayRef<StringRef> ends);
  bool statement(Block &out);
  bool ifStatement(Block &out);
  bool forStatement(Block &out);
  bool setStatement(Block &out);
  bool macroStatement(Block &out);
  bool name(std::string &out) {
    if (peek().kind != Token::Word)
      return fail("expected a name, found '" + peek().text + "'");
    out = tokens[at++].text;
    return true;
  }

  // Expressions; null on failure.
  ExprPtr make(Expr::Kind kind, StringRef text = "") {
    auto e = std::make_unique<Expr>();
    e->kind = kind;
    e->text = text.str();
    e->line = peek().line;
    return e;
  }
  ExprPtr binary(StringRef op, ExprPtr a, ExprPtr b) {
    if (!a || !b)
      return nullptr;
    ExprPtr e = make(Expr::Binary, op);
    e->items.push_back(std::move(a));
    e->items.push_back(std::move(b));
    return e;
  }
  ExprPtr expression();
  ExprPtr tupleExpression();
  ExprPtr orExpression();
  ExprPtr andExpression();
  ExprPtr notExpression();
  ExprPtr comparison();
  ExprPtr sum();
  ExprPtr concatenation();
  ExprPtr product();
  ExprPtr power();
  ExprPtr unary(bool filters = true);
  ExprPtr primary();
  ExprPtr postfix(ExprPtr e);
  ExprPtr filters(ExprPtr e);
  ExprPtr subscript(ExprPtr e);
  bool arguments(Expr &e);
};

bool Parser::lexInside(StringRef s, size_t &i, StringRef close, unsigned &line) {
  auto push = [&](Token::Kind kind, StringRef text) { tokens.push_back({kind, text.str(), line}); };
  int nesting = 0;
  while (i < s.size()) {
    char c = s[i];
    if (c == '\n')
      ++line;
    if (isSpace(c)) {
      ++i;
      continue;
    }
    // `-%}` also trims what follows; `}}` inside braces closes a dict first.
    if (nesting == 0) {
      StringRef rest = s.substr(i);
      bool trim = rest.starts_with("-") && rest.substr(1).starts_with(close);
      bool keep = rest.starts_with("+") && rest.substr(1).starts_with(close);
      if (trim || keep || rest.starts_with(close)) {
        push(Token::End, trim ? "-" : keep ? "+" : "");
        i += close.size() + (trim || keep);
        return true;
      }
    }
    if (isAlpha(c) || c == '_') {
      size_t end = i;
      while (end < s.size() && (isAlnum(s[end]) || s[end] == '_'))
        ++end;
      push(Token::Word, s.slice(i, end));
      i = end;
    } else if (isDigit(c)) {
      size_t end = i;
      bool real = false;
      while (end < s.size() &&
             (isDigit(s[end]) || s[end] == '_' ||
              (s[end] == '.' && !real && end + 1 < s.size() && isDigit(s[end + 1])))) {
        real |= s[end] == '.';
        ++end;
      }
      push(real ? Token::Float : Token::Integer, s.slice(i, end));
      i = end;
    } else if (c == '"' || c == '\'') {
      std::string text;
      size_t end = i + 1;
      for (; end < s.size() && s[end] != c; ++end) {
        if (s[end] == '\n')
          ++line;
        if (s[end] != '\\' || end + 1 >= s.size()) {
          text += s[end];
          continue;
        }
        char e = s[++end];
        size_t digits = e == 'u' ? 4 : e == 'x' ? 2 : 0;
        unsigned value = 0;
        if (digits && !s.substr(end + 1, digits).getAsInteger(16, value) &&
            s.substr(end + 1, digits).size() == digits) {
          if (value < 0x80) {
            text += char(value);
          } else if (value < 0x800) {
            text += char(0xC0 | value >> 6);
            text += char(0x80 | (value & 0x3F));
          } else {
            text += char(0xE0 | value >> 12);
            text += char(0x80 | (value >> 6 & 0x3F));
            text += char(0x80 | (value & 0x3F));
          }
          end += digits;
          continue;
        }
        switch (e) {
        case 'n':
          text += '\n';
          break;
        case 't':
          text += '\t';
          break;
        case 'r':
          text += '\r';
          break;
        case '\\':
        case '\'':
        case '"':
          text += e;
          break;
        default:
          (text += '\\') += e;
        }
      }
      if (end >= s.size()) {
        problem = ("line " + Twine(line) + ": a string is never closed").str();
        return false;
      }
      push(Token::String, text);
      i = end + 1;
    } else {
      static const char *const two[] = {"==", "!=", "<=", ">=", "//", "**"};
      StringRef text = s.substr(i, 1);
      for (const char *t : two)
        if (s.substr(i).starts_with(t))
          text = t;
      if (StringRef("()[]{}.,:|=+-*/%~<>").find(text[0]) == StringRef::npos && text != "!=") {
        problem = ("line " + Twine(line) + ": unexpected character '" + text + "'").str();
        return false;
      }
      if (text == "(" || text == "[" || text == "{")
        ++nesting;
      if (text == ")" || text == "]" || text == "}")
        --nesting;
      push(Token::Symbol, text);
      i += text.size();
    }
  }
  problem = ("line " + Twine(line) + ": a tag is never closed").str();
  return false;
}

bool Parser::lex(StringRef source) {
  std::string normalized; // one kind of line end, and none at the end of the template
  for (size_t i = 0; i < source.size(); ++i)
    if (source[i] != '\r')
      normalized += source[i];
    else if (i + 1 >= source.size() || source[i + 1] != '\n')
      normalized += '\n';
  StringRef s = normalized;
  s.consume_back("\n");
  unsigned line = 1;
  bool trimNext = false;    // the tag before ended in `-`
  bool newlineNext = false; // the tag before drops one newline
  for (size_t i = 0; i <= s.size();) {
    size_t open = i;
    while (open < s.size() &&
           !(s[open] == '{' && open + 1 < s.size() && StringRef("{%#").contains(s[open + 1])))
      ++open;
    StringRef text = s.slice(i, open);
    unsigned textLine = line;
    line += text.count('\n');
    if (trimNext)
      text = text.ltrim(" \t\n\r\v\f");
    else if (newlineNext)
      text.consume_front("\n");
    bool last = open >= s.size();
    char type = last ? 0 : s[open + 1];
    char sign = open + 2 < s.size() ? s[open + 2] : 0;
    if (!last) {
      if (sign == '-') {
        text = text.rtrim(" \t\n\r\v\f");
      } else if (type != '{' && sign != '+') {
        // lstrip_blocks: white space before a tag that stands first on its line.
        StringRef kept = text.rtrim(" \t");
        bool lineStart =
            kept.ends_with("\n") ||
            (kept.empty() && (i == 0 || (!trimNext && s.slice(i, open).contains('\n')) ||
                              s.substr(0, i).ends_with("\n")));
        if (lineStart)
          text = kept;
      }
    }
    if (!text.empty())
      tokens.push_back({Token::Text, text.str(), textLine});
    if (last)
      break;
    i = open + 2 + (sign == '-' || sign == '+');
    trimNext = newlineNext = false;
    if (type == '#') {
      size_t close = s.find("#}", open + 2);
      if (close == StringRef::npos) {
        problem = ("line " + Twine(line) + ": a comment is never closed").str();
        return false;
      }
      line += s.slice(open, close).count('\n');
      trimNext = s[close - 1] == '-' && close - 1 >= open + 2;
      newlineNext = !trimNext && s[close - 1] != '+';
      i = close + 2;
      continue;
    }
    tokens.push_back(
        {type == '{' ? Token::OutputBegin : Token::BlockBegin, s.substr(open, 2).str(), line});
    if (!lexInside(s, i, type == '{' ? "}}" : "%}", line))
      return false;
    trimNext = tokens.back().text == "-";
    newlineNext = type == '%' && tokens.back().text.empty();
  }
  tokens.push_back({Token::Eof, "the end of the template", line});
  return true;
}

bool Parser::block(Block &out, ArrayRef<StringRef> ends) {
  if (++depth > 100)
    return fail("statements are nested too deeply");
  for (;;) {
    const Token &t = peek();
    if (t.kind == Token::Eof) {
      --depth;
      return ends.empty() || fail("a block is never closed");
    }
    auto node = std::make_unique<Node>();
    node->line = t.line;
    if (t.kind == Token::Text) {
      node->kind = Node::Text;
      node->text = t.text;
      ++at;
      out.push_back(std::move(node));
    } else if (t.kind == Token::OutputBegin) {
      ++at;
      node->kind = Node::Output;
      node->a = tupleExpression();
      if (!node->a || !endTag())
        return false;
      out.push_back(std::move(node));
    } else {
      ++at;
      if (peek().kind == Token::Word && is_contained(ends, StringRef(peek().text))) {
        --depth;
        return true;
      }
      if (!statement(out))
        return false;
    }
  }
}

bool Parser::statement(Block &out) {
  if (take("if"))
    return ifStatement(out);
  if (take("for"))
    return forStatement(out);
  if (take("set"))
    return setStatement(out);
  if (take("macro"))
    return macroStatement(out);
  if (isWord("break") || isWord("continue")) {
    auto node = std::make_unique<Node>();
    node->kind = isWord("break") ? Node::Break : Node::Continue;
    ++at;
    out.push_back(std::move(node));
    return endTag();
  }
  // Marks what a training loss covers; says nothing about the text.
  if (take("generation"))
    return endTag() && block(out, {"endgeneration"}) && expect("endgeneration") && endTag();
  return fail("the statement '" + peek().text + "' is not supported");
}

bool Parser::ifStatement(Block &out) {
  auto node = std::make_unique<Node>();
  node->kind = Node::If;
  node->line = peek().line;
  if (++depth > 100)
    return fail("statements are nested too deeply");
  node->a = tupleExpression();
  if (!node->a || !endTag() || !block(node->body, {"elif", "else", "endif"}))
    return false;
  if (take("elif")) {
    if (!ifStatement(node->otherwise))
      return false;
  } else {
    if (take("else") && (!endTag() || !block(node->otherwise, {"endif"})))
      return false;
    if (!expect("endif") || !endTag())
      return false;
  }
  --depth;
  out.push_back(std::move(node));
  return true;
}

bool Parser::forStatement(Block &out) {
  auto node = std::make_unique<Node>();
  node->kind = Node::For;
  node->line = peek().line;
  do {
    if (!name(node->names.emplace_back()))
      return false;
  } while (take(","));
  if (!expect("in") || !(node->a = orExpression()))
    return false;
  if (take("if") && !(node->b = expression()))
    return false;
  if (take("recursive"))
    return fail("recursive loops are not supported");
  if (!endTag() || !block(node->body, {"else", "endfor"}))
    return false;
  if (take("else") && (!endTag() || !block(node->otherwise, {"endfor"})))
    return false;
  out.push_back(std::move(node));
  return expect("endfor") && endTag();
}

bool Parser::setStatement(Block &out) {
  auto node = std::make_unique<Node>();
  node->kind = Node::Set;
  node->line = peek().line;
  if (!name(node->names.emplace_back()))
    return false;
  if (take(".") && !name(node->text))
    return false;
  while (node->text.empty() && take(","))
    if (!name(node->names.emplace_back()))
      return false;
  if (take("=")) {
    node->a = tupleExpression();
    if (!node->a || !endTag())
      return false;
  } else if (!endTag() || !block(node->body, {"endset"}) || !expect("endset") || !endTag()) {
    return false;
  }
  out.push_back(std::move(node));
  return true;
}

bool Parser::macroStatement(Block &out) {
  auto node = std::make_unique<Node>();
  node->kind = Node::MacroDef;
  node->line = peek().line;
  if (!name(node->macro.name) || !expect("("))
    return false;
  while (!take(")")) {
    if (!node->macro.parameters.empty() && !expect(","))
      return false;
    auto &[parameter, value] = node->macro.parameters.emplace_back();
    if (!name(parameter) || (take("=") && !(value = expression())))
      return false;
  }
  if (!endTag() || !block(node->macro.body, {"endmacro"}) || !expect("endmacro") || !endTag())
    return false;
  out.push_back(std::move(node));
  return true;
}

ExprPtr Parser::tupleExpression() {
  ExprPtr first = expression();
  if (!first || !isSymbol(","))
    return first;
  ExprPtr list = make(Expr::ListLit);
  list->items.push_back(std::move(first));
  while (take(",")) {
    ExprPtr next = expression();
    if (!next)
      return nullptr;
    list->items.push_back(std::move(next));
  }
  return list;
}

ExprPtr Parser::expression() {
  if (++depth > 100) {
    fail("expressions are nested too deeply");
    return nullptr;
  }
  ExprPtr e = orExpression();
  while (e && take("if")) {
    ExprPtr condition = make(Expr::Condition);
    condition->items.push_back(std::move(e));
    ExprPtr test = orExpression();
    if (!test)
      return nullptr;
    condition->items.push_back(std::move(test));
    ExprPtr otherwise;
    if (take("else") && !(otherwise = expression()))
      return nullptr;
    condition->items.push_back(std::move(otherwise));
    e = std::move(condition);
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
  if (++depth > 100) {
    fail("expressions are nested too deeply");
    return nullptr;
  }
  ExprPtr inner = notExpression();
  --depth;
  if (!inner)
    return nullptr;
  ExprPtr e = make(Expr::Unary, "not");
  e->items.push_back(std::move(inner));
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
    if (++depth > 100) {
      fail("expressions are nested too deeply");
      return nullptr;
    }
    e = make(Expr::Unary, tokens[at++].text);
    ExprPtr inner = unary(false);
    --depth;
    if (!inner)
      return nullptr;
    e->items.push_back(std::move(inner));
  } else {
    e = postfix(primary());
  }
  return withFilters ? filters(std::move(e)) : std::move(e);
}

ExprPtr Parser::primary() {
  const Token t = peek();
  ExprPtr e = make(Expr::Literal);
  if (t.kind == Token::String) {
    std::string text;
    while (peek().kind == Token::String) // adjacent literals join
      text += tokens[at++].text;
    e->value = Value::of(text);
    return e;
  }
  if (t.kind == Token::Integer || t.kind == Token::Float) {
    ++at;
    std::string digits = t.text;
    llvm::erase(digits, '_');
    int64_t i = 0;
    double d = 0;
    if (t.kind == Token::Integer && !StringRef(digits).getAsInteger(10, i))
      e->value = Value::of(i);
    else if (t.kind == Token::Float && !StringRef(digits).getAsDouble(d))
      e->value = Value::of(d);
    else {
      fail("bad number '" + t.text + "'");
      return nullptr;
    }
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
  if (take("(")) {
    e->kind = Expr::ListLit; // a tuple, unless it turns out to be a grouping
    bool tuple = isSymbol(")");
    while (!isSymbol(")")) {
      ExprPtr item = expression();
      if (!item)
        return nullptr;
      e->items.push_back(std::move(item));
      if (!take(","))
        break;
      tuple = true;
    }
    if (!expect(")"))
      return nullptr;
    return tuple ? std::move(e) : std::move(e->items[0]);
  }
  if (take("[")) {
    e->kind = Expr::ListLit;
    while (!isSymbol("]")) {
      ExprPtr item = expression();
      if (!item)
        return nullptr;
      e->items.push_back(std::move(item));
      if (!take(","))
        break;
    }
    return expect("]") ? std::move(e) : nullptr;
  }
  if (take("{")) {
    e->kind = Expr::DictLit;
    while (!isSymbol("}")) {
      ExprPtr key = expression();
      ExprPtr value = key && expect(":") ? expression() : nullptr;
      if (!value)
        return nullptr;
      e->items.push_back(std::move(key));
      e->items.push_back(std::move(value));
      if (!take(","))
        break;
    }
    return expect("}") ? std::move(e) : nullptr;
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
      e.named.emplace_back(key, std::move(value));
    } else {
      ExprPtr value = expression();
      if (!value)
        return false;
      e.items.push_back(std::move(value));
    }
    if (!take(",") && !isSymbol(")"))
      return fail("expected ',' or ')', found '" + peek().text + "'");
  }
  return true;
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
  out->items.push_back(std::move(e));
  for (size_t i = 0; i < (slice ? 3u : 1u); ++i)
    out->items.push_back(std::move(parts[i]));
  return out;
}

ExprPtr Parser::postfix(ExprPtr e) {
  unsigned length = 0;
  while (e) {
    if (++length > 200) {
      fail("an expression is too long");
      return nullptr;
    }
    if (take(".")) {
      ExprPtr attribute = make(Expr::Attribute, peek().text);
      if (peek().kind == Token::Integer) { // x.0 is x[0]
        attribute->kind = Expr::Index;
        attribute->items.push_back(std::move(e));
        ExprPtr index = primary();
        if (!index)
          return nullptr;
        attribute->items.push_back(std::move(index));
        e = std::move(attribute);
        continue;
      }
      if (peek().kind != Token::Word) {
        fail("expected an attribute, found '" + peek().text + "'");
        return nullptr;
      }
      ++at;
      attribute->items.push_back(std::move(e));
      e = std::move(attribute);
    } else if (take("[")) {
      e = subscript(std::move(e));
    } else if (take("(")) {
      ExprPtr call = make(Expr::Call);
      call->items.push_back(std::move(e));
      if (!arguments(*call))
        return nullptr;
      e = std::move(call);
    } else {
      break;
    }
  }
  return e;
}

ExprPtr Parser::filters(ExprPtr e) {
  unsigned length = 0;
  while (e && (isSymbol("|") || isWord("is") || isSymbol("("))) {
    if (++length > 200) {
      fail("an expression is too long");
      return nullptr;
    }
    if (isSymbol("(")) { // a filter's result called
      ++at;
      ExprPtr call = make(Expr::Call);
      call->items.push_back(std::move(e));
      if (!arguments(*call))
        return nullptr;
      e = std::move(call);
      continue;
    }
    bool filter = tokens[at++].text == "|";
    bool negated = !filter && take("not");
    ExprPtr out = make(filter ? Expr::Filter : Expr::Test);
    if (!name(out->text))
      return nullptr;
    out->items.push_back(std::move(e));
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
      out->items.push_back(std::move(argument));
    }
    e = std::move(out);
    if (negated) {
      ExprPtr no = make(Expr::Unary, "not");
      no->items.push_back(std::move(e));
      e = std::move(no);
    }
  }
  return e;
}

Expected<Block> Parser::run(StringRef source) {
  Block out;
  if (source.size() > 1 << 20)
    return createStringError("the chat template is longer than 1 MiB");
  if (!lex(source) || !block(out, {}))
    return createStringError("the chat template, " + problem);
  return std::move(out);
}
} // namespace

Expected<Block> parse(StringRef source) { return Parser().run(source); }

} // namespace quern::import::jinja
