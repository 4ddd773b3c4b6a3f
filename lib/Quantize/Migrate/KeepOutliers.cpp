//===- KeepOutliers.cpp - Outliers found while the program runs -----------===//
//
// See Passes.td.
//
//===----------------------------------------------------------------------===//
#include "mlir/IR/Builders.h"
#include "quern/Quantize/Migrate/FalliblePass.h"
#include "quern/Quantize/Migrate/Passes.h"
#include "llvm/Support/GlobPattern.h"
#include <cmath>

namespace quern {
#define GEN_PASS_DEF_KEEPOUTLIERSPASS
#include "quern/Quantize/Migrate/Passes.h.inc"
} // namespace quern

using namespace mlir;
using namespace quern;
using namespace quern::migrate;
using llvm::Error;

namespace {
struct KeepOutliers : FalliblePass<quern::impl::KeepOutliersPassBase<KeepOutliers>> {
  using Base::Base;

  Error run() override;
};
} // namespace

Error KeepOutliers::run() {
  if (!(threshold > 0))
    return llvm::createStringError("threshold must be above 0");
  if (std::isinf(float(threshold))) { // nothing lies beyond it
    leaveCounts(getOperation(), {{"kept", 0}});
    return Error::success();
  }
  SmallVector<llvm::GlobPattern> patterns;
  for (const std::string &text : only) {
    llvm::Expected<llvm::GlobPattern> pattern = llvm::GlobPattern::create(text);
    if (!pattern)
      return pattern.takeError();
    patterns.push_back(std::move(*pattern));
  }
  ModuleOp module = getOperation();
  SymbolTable symbols(module);
  auto limit = Builder(&getContext()).getF32FloatAttr(float(threshold));
  int64_t count = 0;
  module.walk([&](LinearOp op) {
    WeightOp weight = weightOf(op.getWeight(), symbols);
    StringRef name = weight ? weight.getSymName() : "";
    bool isMeant = patterns.empty() || llvm::any_of(patterns, [&](const llvm::GlobPattern &p) {
                     return p.match(name);
                   });
    if (!isMeant || op.getStaticScale() ||
        getFormat(op.getWeight().getType()).kind == format::Spec::Kind::Split)
      return;
    op.setOutlierThresholdAttr(limit);
    ++count;
  });
  module.walk([](ExpertLinearOp op) {
    op.emitRemark() << "outliers among what enters " << describe(op)
                    << " are rounded: products of experts have no threshold";
  });
  kept = count;
  leaveCounts(module, {{"kept", count}});
  return Error::success();
}
