//===- ChatTemplateParse.cpp - The statements of chat templates -----------===//
//
// Blocks of text, output and tags, by recursive descent.
//
//===----------------------------------------------------------------------===//
#include "ChatTemplateParser.h"
#include "llvm/ADT/STLExtras.h"

using namespace llvm;

namespace quern::import::jinja {

static constexpr size_t maxSource = 1 << 20;

bool Parser::endTag() {
  if (peek().kind != Token::End)
    return fail("unexpected '" + peek().text + "' in a tag");
  ++at;
  return true;
}

bool Parser::name(std::string &out) {
  if (peek().kind != Token::Word)
    return fail("expected a name, found '" + peek().text + "'");
  out = tokens[at++].text;
  return true;
}

bool Parser::block(Block &out, ArrayRef<StringRef> ends) {
  if (++depth > maxDepth)
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
  if (++depth > maxDepth)
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

Expected<Block> Parser::run(StringRef source) {
  if (source.size() > maxSource)
    return createStringError("the chat template is longer than 1 MiB");
  Expected<std::vector<Token>> lexed = lex(source);
  if (!lexed)
    return createStringError("the chat template, " + toString(lexed.takeError()));
  tokens = std::move(*lexed);
  Block out;
  if (!block(out, {}))
    return createStringError("the chat template, " + problem);
  return std::move(out);
}

Expected<Block> parse(StringRef source) { return Parser().run(source); }

} // namespace quern::import::jinja
