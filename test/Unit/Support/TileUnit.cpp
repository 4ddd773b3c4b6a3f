//===- TileUnit.cpp - The tile registers of AMX, emulated -----------------===//
//
// As Intel's manual defines them (volume 2, TILELOADD, TDPB*D, TDPBF16PS), and as strict: what
// would fault on hardware ends the test with a message.
//
//===----------------------------------------------------------------------===//
#include "EmulateX86.h"
#include "llvm/Support/ErrorHandling.h"
#include <bit>
#include <cmath>
#include <cstring>

using namespace quern::test;
using llvm::orc::ExecutorAddr;
using llvm::orc::ExecutorSymbolDef;

static void require(bool condition, const char *what) {
  if (!condition)
    llvm::report_fatal_error(llvm::Twine("emulated tiles: ") + what);
}

TileUnit &TileUnit::get() {
  static thread_local TileUnit unit;
  return unit;
}

int64_t TileUnit::takeProducts() { return std::exchange(get().products, 0); }

void TileUnit::configure(const uint8_t *config) {
  require(config[0] == 1, "the palette is not 1");
  for (int i = 1; i < 16; ++i)
    require(config[i] == 0, "a reserved or start-row byte is set");
  for (int i = 0; i < 16; ++i) {
    int bytes = config[16 + 2 * i] | config[17 + 2 * i] << 8, rows = config[48 + i];
    require(bytes <= 64 && rows <= 16, "a tile is larger than 16 x 64 bytes");
    require((bytes == 0) == (rows == 0), "a tile has rows or columns only");
    if (i >= 8) {
      require(rows == 0, "there are 8 tiles");
      continue;
    }
    tiles[i].rows = rows;
    tiles[i].bytes = bytes;
    std::memset(tiles[i].data, 0, sizeof tiles[i].data);
  }
  configured = true;
}

void TileUnit::release() { configured = false; }

TileUnit::Tile &TileUnit::at(int tile) {
  require(configured, "used before ldtilecfg");
  require(tile >= 0 && tile < 8 && tiles[tile].rows > 0, "a tile is not configured");
  return tiles[tile];
}

void TileUnit::zero(int tile) { std::memset(at(tile).data, 0, sizeof(Tile::data)); }

void TileUnit::load(int tile, const uint8_t *from, int64_t stride) {
  Tile &t = at(tile);
  std::memset(t.data, 0, sizeof t.data);
  for (int r = 0; r < t.rows; ++r)
    std::memcpy(t.data[r], from + r * stride, t.bytes);
}

void TileUnit::store(int tile, uint8_t *to, int64_t stride) {
  Tile &t = at(tile);
  for (int r = 0; r < t.rows; ++r)
    std::memcpy(to + r * stride, t.data[r], t.bytes);
}

void TileUnit::checkProduct(const Tile &sum, const Tile &a, const Tile &b) {
  require(&sum != &a && &sum != &b && &a != &b, "a product of the same tile twice");
  require(sum.rows == a.rows && sum.bytes == b.bytes && a.bytes == 4 * b.rows,
          "the shapes of a product do not fit");
  ++products;
}

void TileUnit::dotBytes(Bytes kinds, int sumTile, int aTile, int bTile) {
  Tile &sum = at(sumTile), &a = at(aTile), &b = at(bTile);
  checkProduct(sum, a, b);
  bool aSigned = kinds == Bytes::SignedUnsigned || kinds == Bytes::SignedSigned;
  bool bSigned = kinds == Bytes::UnsignedSigned || kinds == Bytes::SignedSigned;
  auto value = [](uint8_t byte, bool isSigned) { return isSigned ? int(int8_t(byte)) : int(byte); };
  for (int m = 0; m < a.rows; ++m)
    for (int k = 0; k < b.rows; ++k)
      for (int n = 0; n < b.bytes / 4; ++n) {
        int32_t total;
        std::memcpy(&total, sum.data[m] + 4 * n, 4);
        for (int i = 0; i < 4; ++i)
          total += value(a.data[m][4 * k + i], aSigned) * value(b.data[k][4 * n + i], bSigned);
        std::memcpy(sum.data[m] + 4 * n, &total, 4);
      }
}

/// Subnormals count as zero.
static float flushed(float x) {
  return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x;
}

void TileUnit::dotBF16(int sumTile, int aTile, int bTile) {
  Tile &sum = at(sumTile), &a = at(aTile), &b = at(bTile);
  checkProduct(sum, a, b);
  auto value = [](const uint8_t *from) {
    uint16_t bits;
    std::memcpy(&bits, from, 2);
    return flushed(std::bit_cast<float>(uint32_t(bits) << 16));
  };
  for (int m = 0; m < a.rows; ++m)
    for (int n = 0; n < b.bytes / 4; ++n) {
      // Even and odd columns are summed apart.
      float halves[2] = {0, 0}, total;
      for (int k = 0; k < b.rows; ++k)
        for (int i = 0; i < 2; ++i)
          halves[i] = flushed(std::fma(value(a.data[m] + 4 * k + 2 * i),
                                       value(b.data[k] + 4 * n + 2 * i), halves[i]));
      std::memcpy(&total, sum.data[m] + 4 * n, 4);
      total = flushed(flushed(total) + flushed(halves[0] + halves[1]));
      std::memcpy(sum.data[m] + 4 * n, &total, 4);
    }
}

//===--- What rewritten code calls ----------------------------------------===//

static void ldtilecfg(const uint8_t *config) { TileUnit::get().configure(config); }
static void tilerelease() { TileUnit::get().release(); }
static void tilezero(int tile) { TileUnit::get().zero(tile); }
static void tileloadd64(int tile, const uint8_t *from, int64_t stride) {
  TileUnit::get().load(tile, from, stride);
}
static void tilestored64(int tile, uint8_t *to, int64_t stride) {
  TileUnit::get().store(tile, to, stride);
}
template <TileUnit::Bytes kinds> static void dotBytes(int sum, int a, int b) {
  TileUnit::get().dotBytes(kinds, sum, a, b);
}
static void tdpbf16ps(int sum, int a, int b) { TileUnit::get().dotBF16(sum, a, b); }

llvm::Error quern::test::defineTileFunctions(llvm::orc::LLJIT &jit) {
  llvm::orc::SymbolMap symbols;
  auto define = [&](llvm::StringRef name, auto *function) {
    symbols[jit.mangleAndIntern(("emulated_" + name).str())] = {ExecutorAddr::fromPtr(function),
                                                                llvm::JITSymbolFlags::Exported |
                                                                    llvm::JITSymbolFlags::Callable};
  };
  using enum TileUnit::Bytes;
  define("ldtilecfg", ldtilecfg);
  define("tilerelease", tilerelease);
  define("tilezero", tilezero);
  define("tileloadd64", tileloadd64);
  define("tilestored64", tilestored64);
  define("tdpbssd", dotBytes<SignedSigned>);
  define("tdpbsud", dotBytes<SignedUnsigned>);
  define("tdpbusd", dotBytes<UnsignedSigned>);
  define("tdpbuud", dotBytes<UnsignedUnsigned>);
  define("tdpbf16ps", tdpbf16ps);
  return jit.getMainJITDylib().define(llvm::orc::absoluteSymbols(std::move(symbols)));
}
