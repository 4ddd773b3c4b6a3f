//===- Print.cpp - Writing the textual spelling of a format ---------------===//
//
// The exact inverse of the parser in Syntax.cpp, where the grammar is.
//
//===----------------------------------------------------------------------===//
#include "Lexer.h"
#include "quern/Format/Number.h"
#include "quern/Format/Spec.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/raw_ostream.h"
#include <cstdio>

using namespace quern::format;

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
      os << separator << spec.termNames[i];
      if (i < spec.termColumns.size())
        os << " " << spec.termColumns[i];
      os << ": ";
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
