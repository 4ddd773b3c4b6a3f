//===- StaticActivationsTest.cpp - Static int8 codes ----------------------===//
//
// tile_quantize with a static scale gives the codes and scales of Reference/Activations.h, to the
// bit: values beyond the range, NaN, ties, rows that end within a group.
//
//===----------------------------------------------------------------------===//
#include "KernelJit.h"
#include "quern/Conversion/LinearDesc.h"
#include "quern/Reference/Activations.h"
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>

using namespace quern::test;
using quern::conversion::ActivationLayout;
namespace reference = quern::reference;

namespace {
class StaticActivations : public testing::TestWithParam<std::string> {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(StaticActivations);
} // namespace

TEST_P(StaticActivations, CodesAreTheReferences) {
  for (int64_t k : {32, 72}) {
    constexpr int64_t rows = 3;
    constexpr float scale = 0.037f;
    constexpr int32_t zero = -19;
    ActivationLayout layout = ActivationLayout::get(quern::conversion::Activation::Int8, k);
    std::string x = "memref<3x" + std::to_string(k) + "xf32>";
    std::string q = "memref<" + std::to_string(rows * layout.bytes) + "xi8>";
    KernelJit jit("func.func @codes(%x: " + x + ", %q: " + q +
                      ", %b: index, %e: index, %t: index) {\n"
                      "quern_kernel.tile_quantize int8 %x to %q rows %b, %e {static_scale = "
                      "3.700000e-02 : f32, static_zero = -19 : i32} : " +
                      x + ", " + q + "\nreturn }\n",
                  GetParam());
    ASSERT_TRUE(jit.ok()) << jit.error;
    std::vector<float> values = Random(3).vector(size_t(rows * k), -6, 6);
    values[1] = NAN;
    values[2] = INFINITY;
    values[3] = -INFINITY;
    for (int i = 0; i < 8; ++i)
      values[size_t(k + i)] = (float(i) - 3.5f) * scale;
    std::vector<uint8_t> out(size_t(rows * layout.bytes), 0xAA);
    jit.call("codes", 0, rows, rows, values.data(), out.data());
    for (int64_t row = 0; row < rows; ++row) {
      std::vector<int8_t> expected(static_cast<size_t>(layout.paddedK)); // 0 beyond K
      reference::quantizeRow(std::span(values).subspan(size_t(row * k), size_t(k)), {scale, zero},
                             std::span(expected).first(size_t(k)));
      const uint8_t *found = out.data() + row * layout.bytes;
      EXPECT_EQ(std::memcmp(found, expected.data(), expected.size()), 0) << "row " << row;
      float stored;
      std::memcpy(&stored, found + layout.scalesOffset, sizeof stored);
      EXPECT_EQ(stored, scale);
      for (int64_t part = 0; part < layout.paddedK / 32; ++part) {
        float sum = 0;
        for (int64_t i = 0; i < 32; ++i)
          sum += expected[size_t(part * 32 + i)];
        std::memcpy(&stored, found + layout.sums32Offset + 4 * part, sizeof stored);
        EXPECT_EQ(stored, sum) << "row " << row << ", group " << part;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, StaticActivations, testing::ValuesIn(targetOfEachWidth()),
                         [](const auto &info) { return testName(info.param); });
