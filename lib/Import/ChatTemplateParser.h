//===- ChatTemplateParser.h - The parser's parts ----------------*- C++ -*-===//
//
// Private to the parser of chat templates: tokens (ChatTemplateLex.cpp), statements
// (ChatTemplateParse.cpp) and expressions (ChatTemplateExpressions.cpp).
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_IMPORT_CHATTEMPLATEPARSER_H
#define QUERN_LIB_IMPORT_CHATTEMPLATEPARSER_H

#include "ChatTemplateAst.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/Twine.h"

namespace quern::import::jinja {

struct Token {
  enum Kind { Text, OutputBegin, BlockBegin, End, Word, String, Integer, Float, Symbol, Eof };
  Kind kind;
  std::string text;
  unsigned line;
};

/// Cuts a template into tokens, the last of which is Eof. An error begins with the line.
llvm::Expected<std::vector<Token>> lex(llvm::StringRef source);

/// Recursive descent with Jinja's precedences. The first problem is kept; everything returns
/// false or null from there on.
class Parser {
public:
  llvm::Expected<Block> run(llvm::StringRef source);

private:
  // Trees of hostile templates: what walks them recurses, their destructors too.
  static constexpr unsigned maxDepth = 100, maxHeight = 300;

  std::vector<Token> tokens;
  size_t at = 0;
  unsigned depth = 0;
  std::string problem;

  // Tokens.
  const Token &peek(size_t ahead = 0) const {
    return tokens[std::min(at + ahead, tokens.size() - 1)];
  }
  bool isSymbol(llvm::StringRef s) const {
    return peek().kind == Token::Symbol && peek().text == s;
  }
  bool isWord(llvm::StringRef s) const { return peek().kind == Token::Word && peek().text == s; }
  bool take(llvm::StringRef s) {
    if (!isSymbol(s) && !isWord(s))
      return false;
    ++at;
    return true;
  }
  bool fail(const llvm::Twine &message) {
    if (problem.empty())
      problem = ("line " + llvm::Twine(peek().line) + ": " + message).str();
    return false;
  }
  bool expect(llvm::StringRef s) {
    return take(s) || fail("expected '" + s + "', found '" + peek().text + "'");
  }
  bool endTag();
  bool name(std::string &out);

  // Statements.
  bool block(Block &out, llvm::ArrayRef<llvm::StringRef> ends);
  bool statement(Block &out);
  bool ifStatement(Block &out);
  bool forStatement(Block &out);
  bool setStatement(Block &out);
  bool macroStatement(Block &out);

  // Expressions; null on failure.
  ExprPtr make(Expr::Kind kind, llvm::StringRef text = "");
  /// Makes `child` (which may be null where the kind allows it) the next operand.
  void adopt(Expr &parent, ExprPtr child);
  void adopt(Expr &parent, std::string key, ExprPtr child);
  ExprPtr binary(llvm::StringRef op, ExprPtr a, ExprPtr b);
  /// The expression, or null when something was wrong with it.
  ExprPtr checked(ExprPtr e) { return problem.empty() ? std::move(e) : nullptr; }
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
  ExprPtr number();
  bool elements(Expr &e, llvm::StringRef close, bool &comma);
  ExprPtr postfix(ExprPtr e);
  ExprPtr filters(ExprPtr e);
  ExprPtr subscript(ExprPtr e);
  bool arguments(Expr &e);
};

} // namespace quern::import::jinja

#endif
