//===- UnpackPanelsTest.cpp - Panels read back ----------------------------===//
//
// What a program's weights mean is what was packed, whatever the format.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Encode.h"
#include "quern/Format/Known.h"
#include "quern/Format/PackedLayout.h"
#include "quern/Format/Random.h"
#include "gtest/gtest.h"
#include <random>

using namespace quern::format;

static void checkRoundTrip(const Spec &spec, const Components &data, int64_t n, int64_t k) {
  auto layout = PackedLayout::get(spec, n, k);
  if (!layout) {
    llvm::consumeError(layout.takeError()); // a format without panels
    return;
  }
  std::vector<uint8_t> panel(size_t(layout->panelBytes)), tables(size_t(layout->tableBytes));
  std::vector<int64_t> sets;
  if (spec.kind == Spec::Kind::Split)
    sets = llvm::cantFail(splitColumns(spec, k));
  Components read;
  allocate(spec, 0, n, k, read, sets);
  for (int64_t p = 0; p < layout->panels(); ++p) {
    ASSERT_FALSE(bool(layout->packPanel(data, p, panel)));
    ASSERT_FALSE(bool(layout->unpackPanel(panel, p, read)));
  }
  ASSERT_FALSE(bool(layout->packTables(data, tables)));
  ASSERT_FALSE(bool(layout->unpackTables(tables, read)));
  std::vector<float> expected(size_t(n * k)), found(expected.size());
  ASSERT_FALSE(bool(decode(spec, data, expected)));
  ASSERT_FALSE(bool(decode(spec, read, found)));
  for (size_t i = 0; i < expected.size(); ++i)
    ASSERT_EQ(expected[i], found[i]) << print(spec) << " at " << i;
}

TEST(UnpackPanels, KnownFormats) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  int64_t n = 40, k = 512;
  std::vector<float> values(size_t(n * k));
  for (float &v : values)
    v = normal(random);
  for (const KnownFormat &known : knownFormats()) {
    Spec spec = *knownSpec(known.name);
    Components data;
    if (llvm::Error e = encode(spec, values, n, k, data)) { // an integer that has no scale
      llvm::consumeError(std::move(e));
      continue;
    }
    checkRoundTrip(spec, data, n, k);
  }
}

TEST(UnpackPanels, RandomFormats) {
  for (uint64_t seed = 0; seed < 150; ++seed) {
    Spec spec = randomSpec(seed);
    Components data;
    int64_t n = 24, k = seed % 3 == 0 ? 288 : 256;
    randomComponents(spec, n, k, seed, data);
    checkRoundTrip(spec, data, n, k);
  }
}
