//===- Validate.cpp - The rules a format obeys ----------------------------===//
//
// Each rule is one line that names what it rejects; everything after validation may
// rely on all of them.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Number.h"
#include "quern/Format/Size.h"
#include "quern/Format/Spec.h"
#include "quern/Format/Tables.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/Twine.h"
#include <algorithm>
#include <cmath>

using namespace quern::format;

/// Tiles beyond this are `*` in any real matrix, and sums of extents stay far from overflow.
static constexpr int64_t maxTileExtent = int64_t(1) << 24;

static llvm::Error reject(const llvm::Twine &message) {
  return llvm::createStringError("malformed format: " + message);
}

static llvm::Error validateNumber(const Number &number, llvm::StringRef what) {
  if (number.isFloat()) {
    if (number.floatKind > FloatKind::F64)
      return reject(what + " has an unknown float type");
    if (number.bits != bitWidth(number.floatKind))
      return reject(what + " has " + llvm::Twine(unsigned(number.bits)) + " bits, but " +
                    name(number.floatKind) + " has " + llvm::Twine(bitWidth(number.floatKind)));
    return llvm::Error::success();
  }
  if (number.kind > Number::Kind::Float)
    return reject(what + " has an unknown kind of number");
  if (number.floatKind != FloatKind::F32)
    return reject(what + " is an integer with a float type set");
  if (number.bits == 0 || (number.bits > 32 && number.bits != 64))
    return reject(what + " is an integer of " + llvm::Twine(unsigned(number.bits)) +
                  " bits; expected 1 to 32, or 64");
  if (number.kind == Number::Kind::Signed && number.bits == 1)
    return reject(what + " is i1, which holds only -1 and 0; use sign or ui1");
  return llvm::Error::success();
}

static llvm::Error validateTable(const Table &table) {
  if (!table.name.empty()) {
    const Table *known = knownTable(table.name);
    if (!known)
      return reject("there is no table named '" + table.name + "'; known are " +
                    llvm::join(knownTableNames(), ", "));
    Table expected = *known;
    expected.entries.clear();
    if (!(expected == table))
      return reject("table '" + table.name + "' with fields other than the known table's");
    return llvm::Error::success();
  }
  if (table.dim < 1 || table.dim > 64)
    return reject("a table entry of " + llvm::Twine(table.dim) + " values; expected 1 to 64");
  if (table.indexBits < 1 || table.indexBits > 16)
    return reject("a table index of " + llvm::Twine(table.indexBits) + " bits; expected 1 to 16");
  if (table.parts < 1 || table.parts > 8)
    return reject("a table index of " + llvm::Twine(table.parts) + " parts; expected 1 to 8");
  if (table.signs > Table::Signs::Parity)
    return reject("a table with an unknown kind of signs");
  if (table.parts * table.indexBits + table.signBits() > 32 || table.parts * table.dim > 64)
    return reject("a table index of " +
                  llvm::Twine(table.parts * table.indexBits + table.signBits()) + " bits for " +
                  llvm::Twine(table.parts * table.dim) +
                  " values; at most 32 bits and 64 values are supported");
  if (table.isLearned())
    return validateNumber(table.entryNumber, "a learned table's entry");
  if (!table.entryNumber.isFloat(FloatKind::F32))
    return reject("a table that is spelled out has no entry type");
  uint64_t count = (uint64_t(1) << table.indexBits) * table.dim;
  if (table.entries.size() != count)
    return reject("a table of " + llvm::Twine(uint64_t(table.entries.size())) +
                  " values; an index of " + llvm::Twine(table.indexBits) + " bits and entries of " +
                  llvm::Twine(table.dim) + " need " + llvm::Twine(count));
  if (!llvm::all_of(table.entries, [](float v) { return std::isfinite(v); }))
    return reject("a table with an infinite value or NaN");
  return llvm::Error::success();
}

static llvm::Error validateCode(const Code &code) {
  bool hasNumber = code.kind == Code::Kind::Number || code.kind == Code::Kind::Pow2 ||
                   code.kind == Code::Kind::Power;
  if (!hasNumber && !(code.number == Number()))
    return reject("a code that is no number has a number type");
  if (code.kind != Code::Kind::Power && code.exponent != 1)
    return reject("an exponent on a code that is no power");
  if (code.kind != Code::Kind::Ternary && code.base3)
    return reject("base-3 digits on a code that is not ternary");
  if (code.kind != Code::Kind::Table && !(code.table == Table()))
    return reject("a table on a code that is no table");
  switch (code.kind) {
  case Code::Kind::Number:
    return validateNumber(code.number, "the code");
  case Code::Kind::Sign:
  case Code::Kind::Ternary:
    return llvm::Error::success();
  case Code::Kind::Pow2:
    // Exponents up to 2^(bits-1) - 1 must stay normal in f32.
    if (code.number.kind != Number::Kind::Unsigned || code.number.bits < 2 || code.number.bits > 8)
      return reject("a pow2 code of " + print(code.number) + "; expected 2 to 8 bits");
    return validateNumber(code.number, "the code");
  case Code::Kind::Power:
    if (code.number.kind != Number::Kind::Signed || code.number.bits < 2 || code.number.bits > 8)
      return reject("a power of " + print(code.number) + "; expected i2 to i8");
    if (!(code.exponent > 0 && code.exponent <= 8))
      return reject("a power with an exponent outside (0, 8]");
    return validateNumber(code.number, "the code");
  case Code::Kind::Table:
    return validateTable(code.table);
  }
  return reject("an unknown kind of code");
}

/// True if extent `inner` divides `outer`, where 0 is the whole dimension.
static bool nests(int64_t inner, int64_t outer) {
  return outer == 0 || (inner != 0 && outer % inner == 0);
}

static llvm::Error validateLevels(const std::vector<Level> &levels, const llvm::Twine &chain,
                                  unsigned valuesPerIndex) {
  if (levels.size() > 4)
    return reject(chain + " of " + llvm::Twine(uint64_t(levels.size())) +
                  " levels; at most 4 are supported");
  for (size_t i = 0; i < levels.size(); ++i) {
    const Level &level = levels[i];
    if (llvm::Error error = validateNumber(level.number, "a level's number"))
      return error;
    if (level.tile.rows < 0 || level.tile.cols < 0 || level.tile.rows > maxTileExtent ||
        level.tile.cols > maxTileExtent)
      return reject("a tile of " + llvm::Twine(level.tile.rows) + "x" +
                    llvm::Twine(level.tile.cols) + " in " + chain);
    if (level.tile.cols % valuesPerIndex != 0)
      return reject("a tile of " + llvm::Twine(level.tile.cols) + " columns in " + chain +
                    " cuts an index of " + llvm::Twine(valuesPerIndex) + " values");
    if (!std::isfinite(level.multiplier) || level.multiplier == 0)
      return reject("a multiplier in " + chain + " is zero or not finite");
    if (!std::isfinite(level.addend))
      return reject("an addend in " + chain + " is not finite");
    if (std::signbit(level.addend) && level.addend == 0)
      return reject("an addend of -0 in " + chain);
    if (i == 0)
      continue;
    const Tile &outer = levels[i - 1].tile;
    if (outer == level.tile)
      return reject("two levels of " + chain + " have the same tile");
    if (!nests(level.tile.rows, outer.rows) || !nests(level.tile.cols, outer.cols))
      return reject("level " + llvm::Twine(uint64_t(i)) + " of " + chain +
                    " does not divide the tile of the level outside it");
  }
  return llvm::Error::success();
}

/// The kernels' chunk and the storage tile need one extent that all others divide.
static llvm::Error validateCommonTile(const Spec &spec) {
  int64_t cols = 0, rows = 0;
  auto forEach = [&](auto visit) {
    for (const auto *levels : {&spec.scale, &spec.offset, &spec.zero})
      for (const Level &level : *levels)
        visit(level.tile);
  };
  forEach([&](const Tile &tile) {
    cols = std::max(cols, tile.cols);
    rows = std::max(rows, tile.rows);
  });
  bool divides = true;
  forEach([&](const Tile &tile) {
    divides &= tile.cols == 0 || cols % tile.cols == 0;
    divides &= tile.rows == 0 || rows % tile.rows == 0;
  });
  if (!divides)
    return reject("the largest tile extent is no multiple of every other");
  return llvm::Error::success();
}

static llvm::Error validateBase(const Spec &spec) {
  if (!spec.terms.empty() || !spec.termNames.empty() || !spec.termColumns.empty())
    return reject("a format of code and levels has terms");
  if (spec.offsetSign != 1 && spec.offsetSign != -1)
    return reject("an offset sign other than plus and minus");
  if (spec.offset.empty() && spec.offsetSign != 1)
    return reject("an offset sign without an offset");
  if (llvm::Error error = validateCode(spec.code))
    return error;
  unsigned values = spec.code.valuesPerIndex();
  if (llvm::Error error = validateLevels(spec.scale, "scale", values))
    return error;
  if (llvm::Error error = validateLevels(spec.offset, "offset", values))
    return error;
  if (llvm::Error error = validateLevels(spec.zero, "zero", values))
    return error;
  return validateCommonTile(spec);
}

static bool hasBaseFields(const Spec &spec) {
  return !(spec.code == Code()) || !spec.scale.empty() || !spec.offset.empty() ||
         !spec.zero.empty() || spec.offsetSign != 1;
}

llvm::Error quern::format::validate(const Spec &spec) {
  if (spec.kind == Spec::Kind::Base)
    return validateBase(spec);
  if (spec.kind > Spec::Kind::Split)
    return reject("an unknown kind of format");
  bool isSum = spec.kind == Spec::Kind::Sum;
  llvm::StringRef what = isSum ? "a sum" : "a split";
  if (hasBaseFields(spec))
    return reject(what + " has a code or levels of its own");
  if (spec.terms.size() < 2 || spec.terms.size() > 16)
    return reject(what + " of " + llvm::Twine(uint64_t(spec.terms.size())) +
                  " terms; expected 2 to 16");
  if (spec.termNames.size() != (isSum ? 0 : spec.terms.size()))
    return reject(isSum ? "a sum with names" : "a split needs a name for each term");
  if (!spec.termColumns.empty() && (isSum || spec.termColumns.size() + 1 != spec.terms.size()))
    return reject(what + " with " + llvm::Twine(uint64_t(spec.termColumns.size())) +
                  " numbers of columns; expected one for each set of a split but the last, or none");
  for (int64_t columns : spec.termColumns)
    if (columns < columnGroup || columns % columnGroup != 0 || columns > (int64_t(1) << 40))
      return reject("a column set of " + llvm::Twine(columns) + " columns; expected a multiple of " +
                    llvm::Twine(columnGroup));
  for (size_t i = 0; i < spec.termNames.size(); ++i) {
    const std::string &name = spec.termNames[i];
    auto inName = [](char c) { return llvm::isAlnum(c) || c == '_'; };
    if (name.empty() || !llvm::isAlpha(name[0]) || !llvm::all_of(name, inName))
      return reject("'" + name + "' as a column set's name");
    if (std::count(spec.termNames.begin(), spec.termNames.end(), name) > 1)
      return reject("two column sets named '" + name + "'");
  }
  for (const Spec &term : spec.terms) {
    if (isSum ? term.kind != Spec::Kind::Base : term.kind == Spec::Kind::Split)
      return reject(isSum ? "a sum's terms must be codes with levels"
                          : "a split may not contain another split");
    if (llvm::Error error = validate(term))
      return error;
  }
  return llvm::Error::success();
}
