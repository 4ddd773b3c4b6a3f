//===- Syntax.cpp - The textual spelling of a format ----------------------===//
//
// A recursive-descent parser, the exact inverse of the printer in Print.cpp.
//
//   spec   := base | sum<[spec, ...]> | split<name columns: spec, ..., name: spec>
//   base   := code (, scale levels | , plus levels | , minus levels | , zero levels)*
//   levels := level (* level)*
//   level  := number[tile (, +addend)? (, xmultiplier)?]
//   tile   := * | (rows|*)x(cols|*)
//   code   := number | sign | ternary | ternary<base3> | pow2<bits> | power<number, exponent>
//           | table<name> | table<dim, [values] mods> | table<dim, n bit (, number)? mods>
//   mods   := (, n parts)? (, full signs | , parity signs)?
//
//===----------------------------------------------------------------------===//
#include "Lexer.h"
#include "quern/Format/Known.h"
#include "quern/Format/Spec.h"
#include "quern/Format/Tables.h"

using namespace quern::format;

namespace {
class Parser : private Lexer {
public:
  explicit Parser(llvm::StringRef text) : Lexer(text) {}

  bool parseWhole(Spec &spec) {
    if (!parseSpec(spec, 0))
      return false;
    skipSpace();
    return rest.empty() || fail("the end of the format");
  }

  using Lexer::message;

private:
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
        spec.termColumns.emplace_back(0);
        if ((!peek(':') && !parseInteger(spec.termColumns.back(), "a number of columns or ':'")) ||
            !expect(':') || !parseSpec(spec.terms.back(), depth + 1))
          return false;
      } while (accept(','));
      if (spec.termColumns.back() != 0)
        return fail("a last set that takes what columns remain, so without a number");
      spec.termColumns.pop_back();
      if (llvm::all_of(spec.termColumns, [](int64_t columns) { return columns == 0; }))
        spec.termColumns.clear();
      return expect('>');
    }
    return parseBase(spec);
  }
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
