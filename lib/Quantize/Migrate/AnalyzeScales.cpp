//===- AnalyzeScales.cpp - Where channels may be scaled -------------------===//
//
// See Passes.td; ScaleSites.cpp does the work.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Migrate/Passes.h"
#include "quern/Quantize/Migrate/ScaleSites.h"

namespace quern {
#define GEN_PASS_DEF_ANALYZESCALESPASS
#include "quern/Quantize/Migrate/Passes.h.inc"
} // namespace quern

using namespace quern;

namespace {
struct AnalyzeScales : quern::impl::AnalyzeScalesPassBase<AnalyzeScales> {
  using Base::Base;

  void runOnOperation() override {
    migrate::ScaleAnalysis analysis = migrate::findScaleSites(getOperation());
    for (migrate::ScaleSite &site : analysis.sites)
      site.consumers.front()->emitRemark()
          << "the channels that enter " << migrate::describe(site.consumers.front())
          << " can be scaled: " << migrate::describe(site.producer) << " absorbs " << site.scales
          << " scales";
    migrate::emitRemarks(analysis);
    markAllAnalysesPreserved();
  }
};
} // namespace
