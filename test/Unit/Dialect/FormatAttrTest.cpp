//===- FormatAttrTest.cpp - Formats as attributes -------------------------===//
//
// Every known format, and random ones of the whole algebra, survive text and bytecode;
// sizes that weights are checked with agree with the file format's own.
//
//===----------------------------------------------------------------------===//
#include "mlir/AsmParser/AsmParser.h"
#include "mlir/Bytecode/BytecodeWriter.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"
#include "quern/Dialect/Quern/IR/QuernOps.h"
#include "quern/Format/FileType.h"
#include "quern/Format/Known.h"
#include "quern/Format/Random.h"
#include <gtest/gtest.h>

using namespace mlir;
using namespace quern;

namespace {

class FormatAttrTest : public ::testing::Test {
protected:
  FormatAttrTest() { context.loadDialect<QuernDialect>(); }

  static std::string text(Attribute attribute) {
    std::string result;
    llvm::raw_string_ostream(result) << attribute;
    return result;
  }

  MLIRContext context;
};

TEST_F(FormatAttrTest, KnownNames) {
  ASSERT_FALSE(format::knownFormats().empty());
  for (const format::KnownFormat &known : format::knownFormats()) {
    std::string byName = ("#quern." + known.name).str();
    auto attribute = dyn_cast_or_null<FormatAttr>(parseAttribute(byName, &context));
    ASSERT_TRUE(attribute) << byName;
    EXPECT_EQ(attribute.getSpec(), *format::knownSpec(known.name)) << byName;
    // The spelled form is the same attribute, and both print as the (first) name.
    std::string spelled = ("#quern.format<" + known.spelling + ">").str();
    EXPECT_EQ(parseAttribute(spelled, &context), attribute) << spelled;
    EXPECT_EQ(text(attribute), ("#quern." + format::knownName(attribute.getSpec())).str());
  }
}

TEST_F(FormatAttrTest, RandomFormatsRoundTrip) {
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
  OpBuilder builder = OpBuilder::atBlockBegin(module->getBody());
  for (uint64_t seed = 0; seed < 200; ++seed) {
    format::Spec spec = format::randomSpec(seed);
    auto attribute = FormatAttr::get(&context, spec);
    EXPECT_EQ(parseAttribute(text(attribute), &context), attribute) << text(attribute);
    WeightOp::create(builder, builder.getUnknownLoc(), "w" + std::to_string(seed),
                     getStoredType(&context, {32, 512}, spec), LayoutAttr(), ArrayAttr(),
                     FlatSymbolRefAttr(), IntegerAttr());
  }
  ASSERT_TRUE(succeeded(verify(*module)));

  std::string bytecode;
  llvm::raw_string_ostream stream(bytecode);
  ASSERT_TRUE(succeeded(writeBytecodeToFile(*module, stream)));
  // Another context: nothing is shared but the bytes.
  MLIRContext other;
  other.loadDialect<QuernDialect>();
  auto again = parseSourceString<ModuleOp>(bytecode, &other);
  ASSERT_TRUE(again);
  for (auto [i, weight] : llvm::enumerate(again->getOps<WeightOp>()))
    EXPECT_EQ(getFormat(weight.getTensorType()), format::randomSpec(i)) << i;
}

TEST_F(FormatAttrTest, WeightsTakeTheBytesOfTheirFileType) {
  for (const format::FileType &type : format::ggufTypes()) {
    int64_t cols = 2 * type.blockElements;
    llvm::Expected<uint64_t> row = type.rowBytes(cols);
    ASSERT_TRUE(bool(row)) << llvm::toString(row.takeError());
    auto weightOf = [&](uint64_t size) {
      std::string source;
      llvm::raw_string_ostream(source)
          << "quern.file @f path \"f\" size 10000000\n"
          << "quern.weight @w : " << getStoredType(&context, {5, cols}, type.spec)
          << " layout<gguf> from [data @f at 7 size " << size << "]\n";
      ScopedDiagnosticHandler quiet(&context, [](Diagnostic &) { return success(); });
      return parseSourceString<ModuleOp>(source, &context);
    };
    auto module = weightOf(5 * *row);
    ASSERT_TRUE(module) << type.name.str();
    EXPECT_EQ((*module->getOps<WeightOp>().begin()).getStoredBytes(), 5 * *row) << type.name.str();
    EXPECT_FALSE(weightOf(5 * *row - 1)) << type.name.str();
    EXPECT_FALSE(weightOf(5 * *row + 1)) << type.name.str();
  }
}

TEST_F(FormatAttrTest, CacheBytes) {
  auto bytes = [&](CacheElement element) {
    return KvCacheType::get(&context, 3, 2, 64, element, 10).getSlotBytes();
  };
  EXPECT_EQ(bytes(CacheElement::F32), 2 * 3 * 2 * 10 * 64 * 4);
  EXPECT_EQ(bytes(CacheElement::F16), 2 * 3 * 2 * 10 * 64 * 2);
  EXPECT_EQ(bytes(CacheElement::Q8_0), 2 * 3 * 2 * 10 * (64 + 2 * 2));
}

} // namespace
