//===- CostModels.cpp - All cost models by name ---------------------------===//
//
// And the two that need no file: bytes read, bit operations.
//
//===----------------------------------------------------------------------===//
#include "CostModels.h"
#include "quern/Format/CodeMeaning.h"
#include "quern/Format/PackedLayout.h"

using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Expected;
using llvm::StringRef;

namespace {
struct BytesModel : CostModel {
  Expected<uint64_t> work(const format::Spec &spec, int64_t rows, int64_t columns) const override {
    return format::matrixBytes(spec, rows, columns);
  }
  StringRef unit() const override { return "bytes"; }
};

/// Every product of a weight and an activation counts the bits of one times those of the other.
struct BitOperationsModel : CostModel {
  Expected<uint64_t> work(const format::Spec &spec, int64_t rows, int64_t columns) const override {
    Expected<format::PackedLayout> layout = format::PackedLayout::get(spec, rows, columns);
    if (!layout)
      return layout.takeError();
    unsigned activation = format::prefersInt8Activations(*layout) ? 8 : 16;
    return uint64_t(rows) * uint64_t(columns) * spec.code.bitsPerIndex() * activation /
           spec.code.valuesPerIndex();
  }
  StringRef unit() const override { return "bit operations"; }
};

template <typename T> Expected<std::unique_ptr<CostModel>> plain(StringRef argument) {
  if (!argument.empty())
    return createStringError("this cost model takes no file: '" + argument + "'");
  return std::make_unique<T>();
}
} // namespace

static constexpr CostInfo table[] = {
    {"time", "seconds a token takes: an analytic table, or time=FILE of `quern measure`",
     createTimeModel},
    {"bitops", "bits of weights times bits of activations, over all products",
     plain<BitOperationsModel>},
    {"bytes", "of weights that a token reads", plain<BytesModel>},
};

llvm::ArrayRef<CostInfo> quern::quantize::costModels() { return table; }

Expected<std::unique_ptr<CostModel>> quern::quantize::createCostModel(StringRef text) {
  auto [name, argument] = text.split('=');
  std::string known;
  for (const CostInfo &info : table) {
    if (info.name == name)
      return info.create(argument);
    known += (known.empty() ? "" : ", ") + info.name.str();
  }
  return createStringError("unknown cost model '" + name + "'; known: " + known);
}
