//===- PackedLayoutTest.cpp - Sizes of weights as kernels read them -------===//
//
// What a program keeps in memory is little more than what files store.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/PackedLayout.h"
#include "quern/Format/FileType.h"
#include "quern/Format/Known.h"
#include "gtest/gtest.h"

using namespace quern::format;

static constexpr double mostOverhead = 1.05;

static double packedOverStored(const Spec &spec, int64_t n, int64_t k) {
  auto layout = PackedLayout::get(spec, n, k);
  if (!layout) {
    ADD_FAILURE() << llvm::toString(layout.takeError());
    return 0;
  }
  std::vector<int64_t> sets;
  if (spec.kind == Spec::Kind::Split)
    sets = llvm::cantFail(splitColumns(spec, k));
  auto stored = storedBytes(spec, {n, k}, sets);
  if (!stored) {
    ADD_FAILURE() << llvm::toString(stored.takeError());
    return 0;
  }
  return double(layout->bytes()) / double(*stored);
}

/// Every known format at the shapes of small and large models. Integers of 64 bits are no weights.
TEST(PackedLayout, IsHardlyLargerThanWhatIsStored) {
  for (const KnownFormat &known : knownFormats()) {
    Spec spec = *knownSpec(known.name);
    if (spec.code.number == Number::signedInt(64))
      continue;
    for (int64_t k : {576, 1024, 1536, 2048, 2560, 5632})
      for (int64_t n : {192, 576, 2048})
        EXPECT_LE(packedOverStored(spec, n, k), mostOverhead)
            << known.name.str() << ", " << n << " x " << k;
  }
}

/// Rows of one block each.
TEST(PackedLayout, AtTheSmallestRowsOfEveryGgufType) {
  for (const FileType &type : ggufTypes())
    if (type.spec.code.number != Number::signedInt(64))
      EXPECT_LE(packedOverStored(type.spec, 64, std::max(type.blockElements, 256u)), mostOverhead)
          << type.name.str();
}
