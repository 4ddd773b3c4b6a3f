//===- Lexer.cpp - Words and numbers of a format's spelling ---------------===//
//
// See Syntax.cpp for the grammar.
//
//===----------------------------------------------------------------------===//
#include "Lexer.h"
#include "quern/Format/Number.h"
#include "llvm/ADT/APFloat.h"
#include "llvm/ADT/Twine.h"

using namespace quern::format;

bool quern::format::toFloat(llvm::StringRef text, float &value) {
  llvm::APFloat parsed(llvm::APFloat::IEEEsingle());
  auto status = parsed.convertFromString(text, llvm::APFloat::rmNearestTiesToEven);
  if (!status) {
    llvm::consumeError(status.takeError());
    return false;
  }
  value = parsed.convertToFloat();
  return true;
}

bool Lexer::fail(llvm::StringRef expected) {
  if (message.empty()) {
    message = ("format '" + whole.take_front(200) + "': expected " + expected + ", found " +
               (rest.empty() ? "the end" : "'" + rest.take_front(24).str() + "'"))
                  .str();
  }
  return false;
}

bool Lexer::peek(char c) {
  skipSpace();
  return rest.starts_with(llvm::StringRef(&c, 1));
}

bool Lexer::accept(char c) {
  if (!peek(c))
    return false;
  rest = rest.drop_front();
  return true;
}

llvm::StringRef Lexer::peekWord() {
  skipSpace();
  return rest.take_while([](char c) { return llvm::isAlnum(c) || c == '_'; });
}

bool Lexer::acceptWord(llvm::StringRef word) {
  if (peekWord() != word)
    return false;
  rest = rest.drop_front(word.size());
  return true;
}

bool Lexer::parseFloat(float &value) {
  skipSpace();
  auto inNumber = [](char c) {
    return llvm::isDigit(c) || c == '.' || c == '-' || c == '+' || c == 'e' || c == 'E';
  };
  llvm::StringRef text = rest.take_while(inNumber);
  if (text.empty() || !toFloat(text, value))
    return fail("a decimal number");
  rest = rest.drop_front(text.size());
  return true;
}

bool Lexer::parseNumber(Number &number) {
  llvm::StringRef word = peekWord();
  for (unsigned k = 0; k <= unsigned(FloatKind::F64); ++k)
    if (word == name(FloatKind(k))) {
      number = Number::floating(FloatKind(k));
      rest = rest.drop_front(word.size());
      return true;
    }
  unsigned bits;
  llvm::StringRef digits = word;
  bool isUnsigned = digits.consume_front("u");
  if (!digits.consume_front("i") || digits.empty() || digits[0] == '0' ||
      digits.getAsInteger(10, bits) || bits > 64)
    return fail("a number type such as i4, ui6 or f16");
  number = isUnsigned ? Number::unsignedInt(bits) : Number::signedInt(bits);
  rest = rest.drop_front(word.size());
  return true;
}
