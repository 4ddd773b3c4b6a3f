//===- Tables.cpp - Codebooks known by name -------------------------------===//
//
// Small tables are spelled out; the lattices of GGUF's IQ types are unpacked from
// Grids.inc on first use.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Tables.h"
#include "llvm/Support/MathExtras.h"

using namespace quern::format;

#include "Grids.inc"

namespace {
struct Lattice {
  llvm::ArrayRef<uint16_t> packed;
  unsigned width; ///< bits of one value in a packed entry
  std::vector<float> alphabet;
};
} // namespace

static Table scalarTable(llvm::StringRef name, std::vector<float> entries) {
  Table table;
  table.name = name.str();
  table.indexBits = llvm::Log2_64(entries.size());
  table.entries = std::move(entries);
  return table;
}

static Table latticeTable(llvm::StringRef name, unsigned dim, unsigned indexBits,
                          const Lattice &lattice, unsigned parts = 1,
                          Table::Signs signs = Table::Signs::None) {
  Table table;
  table.name = name.str();
  table.dim = dim;
  table.indexBits = indexBits;
  table.parts = parts;
  table.signs = signs;
  table.entries.reserve(lattice.packed.size() * dim);
  for (uint16_t entry : lattice.packed)
    for (unsigned i = 0; i < dim; ++i)
      table.entries.push_back(
          lattice.alphabet[(entry >> (i * lattice.width)) & ((1u << lattice.width) - 1)]);
  return table;
}

static const std::vector<Table> &tables() {
  static const std::vector<float> eights = {8, 25, 43};
  static const std::vector<Table> all = {
      // QLoRA's quantiles of a normal distribution.
      scalarTable("nf4", {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
                          -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
                          0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f,
                          0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f,
                          0.7229568362236023f, 1.0f}),
      scalarTable("iq4nl",
                  {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}),
      // Lloyd-Max levels of normally distributed groups of 32 whose scale may have either sign: one
      // side reaches further (benchmarks/levels.py).
      scalarTable("lm2", {-126, -43, 16, 84}),
      scalarTable("lm3", {-87, -52, -30, -12, 5, 23, 44, 72}),
      scalarTable("lm4", {-115, -85, -66, -51, -38, -27, -17, -7, 3, 14, 25, 37, 50, 64, 81, 102}),
      scalarTable("lm5",
                  {-100, -80, -69, -61, -54, -47, -41, -36, -31, -26, -22, -18, -14, -10, -6, -2,
                   2,    6,   10,  14,  18,  22,  26,  30,  35,  40,  45,  51,  58,  66,  79, 89}),
      scalarTable("lm6", {-109, -85, -79, -72, -66, -61, -57, -53, -50, -47, -44, -41, -39,
                          -37,  -35, -33, -31, -29, -27, -25, -23, -21, -19, -17, -15, -13,
                          -11,  -9,  -7,  -5,  -3,  -1,  1,   3,   5,   7,   9,   11,  13,
                          15,   17,  19,  21,  23,  25,  27,  29,  31,  33,  35,  37,  39,
                          42,   45,  48,  51,  54,  57,  61,  65,  71,  78,  87,  101}),
      // f4E2M1FN doubled, with a single zero: how GGUF reads MXFP4 and NVFP4.
      scalarTable("e2m1x2", {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}),
      latticeTable("iq1", 8, 11, {iq1sGrid, 2, {-1, 0, 1}}),
      latticeTable("iq2xxs", 8, 8, {iq2xxsGrid, 2, eights}, 1, Table::Signs::Parity),
      latticeTable("iq2xs", 8, 9, {iq2xsGrid, 2, eights}, 1, Table::Signs::Parity),
      latticeTable("iq2s", 8, 10, {iq2sGrid, 2, eights}, 1, Table::Signs::Full),
      latticeTable("iq3xxs", 4, 8, {iq3xxsGrid, 3, {4, 12, 20, 28, 36, 44, 52, 62}}, 2,
                   Table::Signs::Parity),
      latticeTable("iq3s", 4, 9, {iq3sGrid, 3, {1, 3, 5, 7, 9, 11, 13, 15}}, 1, Table::Signs::Full),
  };
  return all;
}

const Table *quern::format::knownTable(llvm::StringRef name) {
  for (const Table &table : tables())
    if (table.name == name)
      return &table;
  return nullptr;
}

std::vector<llvm::StringRef> quern::format::knownTableNames() {
  std::vector<llvm::StringRef> names;
  for (const Table &table : tables())
    names.push_back(table.name);
  return names;
}
