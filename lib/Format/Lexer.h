//===- Lexer.h - Words and numbers of a format's spelling -------*- C++ -*-===//
//
// What the parser in Syntax.cpp is made of.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_FORMAT_LEXER_H
#define QUERN_LIB_FORMAT_LEXER_H

#include "quern/Format/Spec.h"
#include "llvm/ADT/StringExtras.h"

namespace quern::format {

/// Reads a number to the nearest f32; false if it is none or beyond f32.
bool toFloat(llvm::StringRef text, float &value);

/// Each method consumes what it names and returns false after setting `message`; `peek` and
/// `accept` set none.
class Lexer {
public:
  explicit Lexer(llvm::StringRef text) : whole(text), rest(text) {}

  std::string message;

protected:
  void skipSpace() { rest = rest.ltrim(" \t\r\n"); }
  bool fail(llvm::StringRef expected);
  bool peek(char c);
  bool accept(char c);
  bool expect(char c) { return accept(c) || fail("'" + std::string(1, c) + "'"); }
  llvm::StringRef peekWord();
  bool acceptWord(llvm::StringRef word);
  bool parseFloat(float &value);
  bool parseNumber(Number &number);

  template <typename T> bool parseInteger(T &value, llvm::StringRef what) {
    skipSpace();
    llvm::StringRef digits = rest.take_while(llvm::isDigit);
    if (digits.empty() || digits.getAsInteger(10, value))
      return fail(what);
    rest = rest.drop_front(digits.size());
    return true;
  }

  llvm::StringRef whole, rest;
};

} // namespace quern::format

#endif // QUERN_LIB_FORMAT_LEXER_H
