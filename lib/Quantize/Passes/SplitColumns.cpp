//===- SplitColumns.cpp - Outlier channels in a format of their own -------===//
//
// See Passes.td. Only chooses; quern-quantize-weights or the encoder do the rest.
//
//===----------------------------------------------------------------------===//
#include "Rounding.h"
#include "quern/Quantize/Migrate/FalliblePass.h"
#include "quern/Quantize/Migrate/ScaleSites.h"
#include "quern/Quantize/Passes/Passes.h"
#include <cmath>
#include <numeric>

namespace quern {
#define GEN_PASS_DEF_SPLITCOLUMNSPASS
#include "quern/Quantize/Passes/Passes.h.inc"
} // namespace quern

using namespace mlir;
using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

namespace {
struct SplitColumns : FalliblePass<quern::impl::SplitColumnsPassBase<SplitColumns>> {
  using Base::Base;

  Error run() override;
  SmallVector<int32_t> outliersOf(const InputStatistics &input);
};
} // namespace

/// In the matrix's order; filled up to whole groups with the next largest channels.
SmallVector<int32_t> SplitColumns::outliersOf(const InputStatistics &input) {
  SmallVector<int32_t> order(size_t(input.columns), 0);
  std::iota(order.begin(), order.end(), 0);
  llvm::stable_sort(order, [&](int32_t a, int32_t b) { return input.absMax[a] > input.absMax[b]; });
  size_t count = share > 0 ? size_t(std::ceil(share * double(input.columns)))
                           : size_t(llvm::count_if(input.absMax, [&](float largest) {
                               return double(largest) >= threshold;
                             }));
  order.truncate(
      std::min<size_t>(order.size(), llvm::alignTo(count, uint64_t(format::columnGroup))));
  llvm::sort(order);
  return order;
}

Error SplitColumns::run() {
  ModuleOp module = getOperation();
  if (statistics.empty())
    return createStringError("no statistics given (statistics=FILE, of `quern calibrate`)");
  if (!(threshold > 0) || !(share >= 0 && share < 1))
    return createStringError("expected a threshold above 0 and a share in [0, 1)");
  Expected<format::Spec> few = format::parse(rest), many = format::parse(outliers);
  if (!few || !many)
    return joinErrors(few.takeError(), many.takeError());
  if (few->kind == format::Spec::Kind::Split || many->kind == format::Spec::Kind::Split)
    return createStringError("a set of a split cannot be a split");
  Expected<Statistics> known = Statistics::read(statistics);
  if (!known)
    return known.takeError();
  migrate::WeightReaders readers(module);
  int64_t done = 0, whole = 0, kept = 0;
  module.walk([&](ExpertLinearOp op) {
    op.emitRemark() << "what enters " << migrate::describe(op)
                    << " is not split: experts share a format, not the channels of their outliers";
    ++kept;
  });
  for (WeightOp weight : findMatrices(module)) {
    if (weight.getTensorType().getRank() > 2)
      continue; // said already
    SmallVector<OpOperand *> uses = readers.readers(weight);
    auto foreign = llvm::find_if(uses, [&](OpOperand *use) {
      auto read = use->get().getDefiningOp<UseOp>();
      return !isa<LinearOp>(use->getOwner()) || !read || read.getWeight() != weight.getSymName();
    });
    const InputStatistics *input = known->find(weight.getSymName());
    if (foreign != uses.end() || !input || !input->rows) {
      Operation *op = uses.front()->getOwner();
      op->emitRemark() << "@" << weight.getSymName() << " is not split: "
                       << (foreign == uses.end()
                               ? "no statistics for what enters it"
                               : migrate::describe((*foreign)->getOwner()) +
                                     " reads rows of it, which a split does not keep together");
      ++kept;
      continue;
    }
    int64_t columns = weight.getTensorType().getDimSize(1);
    if (input->columns != columns)
      return createStringError("the statistics have " + Twine(input->columns) +
                               " channels for what enters '" + weight.getSymName() +
                               "', which has " + Twine(columns));
    SmallVector<int32_t> leading = outliersOf(*input);
    format::Spec spec = leading.empty() ? *few : *many;
    if (leading.empty() || int64_t(leading.size()) == columns) {
      ++whole;
    } else {
      spec = format::Spec();
      spec.kind = format::Spec::Kind::Split;
      spec.terms = {*many, *few};
      spec.termNames = {"outliers", "rest"};
      spec.termColumns = {int64_t(leading.size())};
      weight->setAttr(kSplitColumnsAttr, DenseI32ArrayAttr::get(&getContext(), leading));
      ++done;
    }
    weight->setAttr(kChosenFormatAttr, FormatAttr::get(&getContext(), spec));
  }
  if (!done && !whole && kept)
    return createStringError("the statistics are of another model: they know none of its tensors");
  split = done;
  plain = whole;
  left = kept;
  migrate::leaveCounts(module, {{"split", done}, {"plain", whole}, {"left", kept}});
  return Error::success();
}
