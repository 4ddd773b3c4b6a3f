//===- ChatTemplateAst.h - Parsed chat templates ----------------*- C++ -*-===//
//
// The subset of Jinja that chat templates use, as a tree; and its interpreter.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_IMPORT_CHATTEMPLATEAST_H
#define QUERN_LIB_IMPORT_CHATTEMPLATEAST_H

#include "ChatTemplateValue.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace quern::import::jinja {

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct Expr {
  enum Kind {
    Literal,   ///< value
    Name,      ///< text
    ListLit,   ///< items
    DictLit,   ///< items: key, value, ...
    Unary,     ///< text: `-`, `+`, `not`; items[0]
    Binary,    ///< text: operator; items[0], items[1]
    Condition, ///< items: value if true, condition, value if false (may be null)
    Attribute, ///< items[0].text
    Index,     ///< items[0][items[1]]
    Slice,     ///< items[0][items[1]:items[2]:items[3]], each may be null
    Call,      ///< items[0](items[1..], named)
    Filter,    ///< items[0] | text(items[1..], named)
    Test,      ///< items[0] is text(items[1..])
  };
  Kind kind;
  std::string text;
  Value value;
  std::vector<ExprPtr> items;
  std::vector<std::pair<std::string, ExprPtr>> named;
  unsigned line = 0, height = 1; ///< of the tree below
};

struct Node;
using Block = std::vector<std::unique_ptr<Node>>;

struct Macro {
  std::string name;
  std::vector<std::pair<std::string, ExprPtr>> parameters; ///< with default, or null
  Block body;
};

struct Node {
  enum Kind {
    Text,   ///< text
    Output, ///< a
    If,     ///< a, body, otherwise
    For,    ///< for names in a (if b): body; otherwise
    Set,    ///< names[0](.attribute) = a, or the text of body
    MacroDef,
    Break,
    Continue,
  };
  Kind kind;
  std::string text; ///< Text; Set: the attribute
  std::vector<std::string> names;
  ExprPtr a, b;
  Block body, otherwise;
  Macro macro;
  unsigned line = 0;
};

/// Parses a template with `trim_blocks` and `lstrip_blocks`, as chat templates are written for.
llvm::Expected<Block> parse(llvm::StringRef source);

/// Renders; every error of the template (also `raise_exception`) is an Error. `variables` are the
/// template's context. Work, depth and output are bounded; the work is taken off `budget`, beyond
/// which it is an error too.
llvm::Expected<std::string> render(const Block &program,
                                   const std::vector<std::pair<std::string, Value>> &variables,
                                   uint64_t &budget);

} // namespace quern::import::jinja

#endif // QUERN_LIB_IMPORT_CHATTEMPLATEAST_H
