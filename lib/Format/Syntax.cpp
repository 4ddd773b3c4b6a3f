//===- Syntax.cpp - The textual spelling of a format ----------------------===//
//
// A printer and a recursive-descent parser that are exact inverses of each other.
//
//   spec   := base | sum<[spec, ...]> | split<name: spec, ...>
//   base   := code (, scale levels | , plus levels | , minus levels | , zero levels)*
//   levels := level (* level)*
//   level  := number[tile (, +addend)? (, xmultiplier)?]
//   tile   := * | (rows|*)x(cols|*)
//   code   := number | sign | ternary | ternary<base3> | pow2<bits> | power<number, exponent>
//           | table<name> | table<dim, [values] mods> | table<dim, n bit (, number)? mods>
//   mods   := (, n parts)? (, full signs | , parity signs)?
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Known.h"
#include "quern/Format/Number.h"
#include "quern/Format/Spec.h"
#include "quern/Format/Tables.h"
#include "llvm/ADT/APFloat.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/raw_ostream.h"
#include <cstdio>

using namespace quern::format;

//===----------------------------------------------------------------------===//
// Printing
//===----------------------------------------------------------------------===//

static bool toFloat(llvm::StringRef text, float &value) {
  llvm::APFloat parsed(llvm::APFloat::IEEEsingle());
  auto status = parsed.convertFromString(text, llvm::APFloat::rmNearestTiesToEven);
  if (!status) {
    llvm::consumeError(status.takeError());
    return false;
  }
  value = parsed.convertToFloat();
  return true;
}

/// The shortest decimal that reads back as the same float.
static std::string printFloat(float value) {
  char buffer[40];
  for (int digits = 1; digits <= 9; ++digits) {
    std::snprintf(buffer, sizeof buffer, "%.*g", digits, double(value));
    float back;
    if (toFloat(buffer, back) && back == value)
      break;
  }
  return buffer;
}

std::string quern::format::print(const Number &number) {
  if (number.isFloat())
    return name(number.floatKind).str();
  return (number.kind == Number::Kind::Signed ? "i" : "ui") + std::to_string(number.bits);
}

static void printTable(llvm::raw_ostream &os, const Table &table) {
  if (!table.name.empty()) {
    os << "table<" << table.name << ">";
    return;
  }
  os << "table<" << table.dim << ", ";
  if (table.isLearned()) {
    os << table.indexBits << " bit";
    if (!table.entryNumber.isFloat(FloatKind::F32))
      os << ", " << print(table.entryNumber);
  } else {
    os << "[";
    llvm::ListSeparator separator;
    for (float value : table.entries)
      os << separator << printFloat(value);
    os << "]";
  }
  if (table.parts != 1)
    os << ", " << table.parts << " parts";
  if (table.signs != Table::Signs::None)
    os << (table.signs == Table::Signs::Full ? ", full signs" : ", parity signs");
  os << ">";
}

static void printCode(llvm::raw_ostream &os, const Code &code) {
  switch (code.kind) {
  case Code::Kind::Number:
    os << print(code.number);
    return;
  case Code::Kind::Sign:
    os << "sign";
    return;
  case Code::Kind::Ternary:
    os << (code.base3 ? "ternary<base3>" : "ternary");
    return;
  case Code::Kind::Pow2:
    os << "pow2<" << unsigned(code.number.bits) << ">";
    return;
  case Code::Kind::Power:
    os << "power<" << print(code.number) << ", " << printFloat(code.exponent) << ">";
    return;
  case Code::Kind::Table:
    printTable(os, code.table);
    return;
  }
}

static void printLevels(llvm::raw_ostream &os, llvm::StringRef keyword,
                        const std::vector<Level> &levels) {
  if (levels.empty())
    return;
  os << ", " << keyword << " ";
  llvm::ListSeparator separator(" * ");
  for (const Level &level : levels) {
    os << separator << print(level.number) << "[";
    auto extent = [&](int64_t n) { return n == 0 ? std::string("*") : std::to_string(n); };
    if (level.tile.rows == 0 && level.tile.cols == 0)
      os << "*";
    else
      os << extent(level.tile.rows) << "x" << extent(level.tile.cols);
    if (level.addend != 0)
      os << ", " << (level.addend > 0 ? "+" : "") << printFloat(level.addend);
    if (level.multiplier != 1)
      os << ", x" << printFloat(level.multiplier);
    os << "]";
  }
}

static void printSpec(llvm::raw_ostream &os, const Spec &spec) {
  llvm::ListSeparator separator;
  switch (spec.kind) {
  case Spec::Kind::Base:
    printCode(os, spec.code);
    printLevels(os, "scale", spec.scale);
    printLevels(os, spec.offsetSign < 0 ? "minus" : "plus", spec.offset);
    printLevels(os, "zero", spec.zero);
    return;
  case Spec::Kind::Sum:
    os << "sum<[";
    for (const Spec &term : spec.terms) {
      os << separator;
      printSpec(os, term);
    }
    os << "]>";
    return;
  case Spec::Kind::Split:
    os << "split<";
    for (size_t i = 0; i < spec.terms.size(); ++i) {
      os << separator << spec.termNames[i] << ": ";
      printSpec(os, spec.terms[i]);
    }
    os << ">";
    return;
  }
}

std::string quern::format::print(const Spec &spec) {
  std::string text;
  llvm::raw_string_ostream os(text);
  printSpec(os, spec);
  return text;
}

//===----------------------------------------------------------------------===//
// Parsing
//===----------------------------------------------------------------------===//

namespace {
/// Each method consumes what it names and returns false after setting `message`.
class Parser {
public:
  explicit Parser(llvm::StringRef text) : whole(text), rest(text) {}

  bool parseWhole(Spec &spec) {
    if (!parseSpec(spec, 0))
      return false;
    skipSpace();
    return rest.empty() || fail("the end of the format");
  }

  std::string message;

private:
  void skipSpace() { rest = rest.ltrim(" \t\r\n"); }

  bool fail(llvm::StringRef expected) {
    if (message.empty()) {
      message = ("format '" + whole.take_front(200) + "': expected " + expected + ", found " +
                 (rest.empty() ? "the end" : "'" + rest.take_front(24).str() + "'"))
                    .str();
    }
    return false;
  }

  bool peek(char c) {
    skipSpace();
    return rest.starts_with(llvm::StringRef(&c, 1));
  }

  bool accept(char c) {
    if (!peek(c))
      return false;
    rest = rest.drop_front();
    return true;
  }

  bool expect(char c) { return accept(c) || fail("'" + std::string(1, c) + "'"); }

  llvm::StringRef peekWord() {
    skipSpace();
    return rest.take_while([](char c) { return llvm::isAlnum(c) || c == '_'; });
  }

  bool acceptWord(llvm::StringRef word) {
    if (peekWord() != word)
      return false;
    rest = rest.drop_front(word.size());
    return true;
  }

  template <typename T> bool parseInteger(T &value, llvm::StringRef what) {
    skipSpace();
    llvm::StringRef digits = rest.take_while(llvm::isDigit);
    if (digits.empty() || digits.getAsInteger(10, value))
      return fail(what);
    rest = rest.drop_front(digits.size());
    return true;
  }

  bool parseFloat(float &value) {
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

  bool parseNumber(Number &number) {
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

  bool parseExtent(int64_t &extent) {
    if (accept('*')) {
      extent = 0;
      return true;
    }
    if (!parseInteger(extent, "a tile extent or '*'"))
      return false;
    return extent > 0 || fail("a tile extent of at least 1 before this");
  }

  bool parseLevel(Level &level) {
    if (!parseNumber(level.number) || !expect('[') || !parseExtent(level.tile.rows))
      return false;
    bool wholeMatrix = level.tile.rows == 0 && !peek('x');
    level.tile.cols = 0;
    if (!wholeMatrix && (!expect('x') || !parseExtent(level.tile.cols)))
      return false;
    while (accept(',')) {
      if (accept('x')) {
        if (!parseFloat(level.multiplier))
          return false;
      } else if (peek('+') || peek('-')) {
        if (!parseFloat(level.addend))
          return false;
      } else {
        return fail("'+addend', '-addend' or 'xmultiplier'");
      }
    }
    return expect(']');
  }

  bool parseLevels(std::vector<Level> &levels) {
    if (!levels.empty())
      return fail("each of scale, plus, minus and zero at most once before this");
    do {
      levels.emplace_back();
      if (!parseLevel(levels.back()))
        return false;
    } while (accept('*'));
    return true;
  }

  bool parseTable(Table &table) {
    if (!expect('<'))
      return false;
    skipSpace();
    if (!rest.empty() && !llvm::isDigit(rest.front())) {
      llvm::StringRef word = peekWord();
      const Table *known = knownTable(word);
      if (!known)
        return fail("a table's dimension or one of the tables " +
                    llvm::join(knownTableNames(), ", "));
      table = *known;
      table.entries.clear();
      rest = rest.drop_front(word.size());
      return expect('>');
    }
    if (!parseInteger(table.dim, "the number of values an entry has") || !expect(','))
      return false;
    if (accept('[')) {
      do {
        table.entries.emplace_back();
        if (!parseFloat(table.entries.back()))
          return false;
      } while (accept(','));
      if (!expect(']'))
        return false;
      uint64_t count = table.dim == 0 ? 0 : table.entries.size() / table.dim;
      for (table.indexBits = 0; (uint64_t(1) << table.indexBits) < count;)
        ++table.indexBits;
    } else if (!parseInteger(table.indexBits, "'[' or the index width") ||
               !(acceptWord("bit") || acceptWord("bits") || fail("'bit'"))) {
      return false;
    }
    while (accept(',')) {
      skipSpace();
      if (!rest.empty() && llvm::isDigit(rest.front())) {
        if (!parseInteger(table.parts, "a number of parts") ||
            !(acceptWord("parts") || fail("'parts'")))
          return false;
      } else if (acceptWord("full")) {
        table.signs = Table::Signs::Full;
        if (!acceptWord("signs"))
          return fail("'signs'");
      } else if (acceptWord("parity")) {
        table.signs = Table::Signs::Parity;
        if (!acceptWord("signs"))
          return fail("'signs'");
      } else if (table.entries.empty()) {
        if (!parseNumber(table.entryNumber))
          return false;
      } else {
        return fail("'n parts', 'full signs' or 'parity signs'");
      }
    }
    return expect('>');
  }

  bool parseCode(Code &code) {
    if (acceptWord("sign")) {
      code.kind = Code::Kind::Sign;
      return true;
    }
    if (acceptWord("ternary")) {
      code.kind = Code::Kind::Ternary;
      if (accept('<')) {
        code.base3 = true;
        return (acceptWord("base3") || fail("'base3'")) && expect('>');
      }
      return true;
    }
    if (acceptWord("pow2")) {
      code.kind = Code::Kind::Pow2;
      unsigned bits = 0;
      if (!expect('<') || !parseInteger(bits, "a width") || !expect('>'))
        return false;
      if (bits > 64)
        return fail("a width of at most 64 before this");
      code.number = Number::unsignedInt(bits);
      return true;
    }
    if (acceptWord("power")) {
      code.kind = Code::Kind::Power;
      return expect('<') && parseNumber(code.number) && expect(',') && parseFloat(code.exponent) &&
             expect('>');
    }
    if (acceptWord("table")) {
      code.kind = Code::Kind::Table;
      return parseTable(code.table);
    }
    code.kind = Code::Kind::Number;
    return parseNumber(code.number);
  }

  bool parseBase(Spec &spec) {
    if (!parseCode(spec.code))
      return false;
    while (true) {
      llvm::StringRef before = rest;
      if (!accept(','))
        return true;
      bool ok;
      if (acceptWord("scale")) {
        ok = parseLevels(spec.scale);
      } else if (acceptWord("plus")) {
        ok = parseLevels(spec.offset);
      } else if (acceptWord("minus")) {
        ok = parseLevels(spec.offset);
        spec.offsetSign = -1;
      } else if (acceptWord("zero")) {
        ok = parseLevels(spec.zero);
      } else {
        rest = before; // The comma belongs to the enclosing list, if there is one.
        return true;
      }
      if (!ok)
        return false;
    }
  }

  bool parseSpec(Spec &spec, unsigned depth) {
    if (depth > 2)
      return fail("at most two levels of sum and split");
    if (acceptWord("sum")) {
      spec.kind = Spec::Kind::Sum;
      if (!expect('<') || !expect('['))
        return false;
      do {
        spec.terms.emplace_back();
        if (!parseSpec(spec.terms.back(), depth + 1))
          return false;
      } while (accept(','));
      return expect(']') && expect('>');
    }
    if (acceptWord("split")) {
      spec.kind = Spec::Kind::Split;
      if (!expect('<'))
        return false;
      do {
        llvm::StringRef word = peekWord();
        if (word.empty())
          return fail("a column set's name");
        rest = rest.drop_front(word.size());
        spec.termNames.push_back(word.str());
        spec.terms.emplace_back();
        if (!expect(':') || !parseSpec(spec.terms.back(), depth + 1))
          return false;
      } while (accept(','));
      return expect('>');
    }
    return parseBase(spec);
  }

  llvm::StringRef whole, rest;
};
} // namespace

namespace quern::format {
/// Without names of known formats, so that Known.cpp can use it.
llvm::Expected<Spec> parseSpelling(llvm::StringRef text) {
  Parser parser(text);
  Spec spec;
  if (!parser.parseWhole(spec))
    return llvm::createStringError(parser.message);
  if (llvm::Error error = validate(spec))
    return std::move(error);
  return spec;
}
} // namespace quern::format

llvm::Expected<Spec> quern::format::parse(llvm::StringRef text) {
  if (const Spec *known = knownSpec(text.trim()))
    return *known;
  return parseSpelling(text);
}
