//===- Allocate.cpp - A format for each weight within a budget ------------===//
//
// See Passes.td; lib/Quantize/Allocation chooses.
//
//===----------------------------------------------------------------------===//
#include "Rounding.h"
#include "mlir/IR/Builders.h"
#include "quern/Format/Matrix.h"
#include "quern/Quantize/Allocation.h"
#include "quern/Quantize/Migrate/FalliblePass.h"
#include "quern/Quantize/Migrate/ScaleSites.h"
#include "quern/Quantize/Passes/Passes.h"
#include "quern/Support/OutputFile.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/FormatVariadic.h"
#include <cmath>

namespace quern {
#define GEN_PASS_DEF_ALLOCATEPASS
#include "quern/Quantize/Passes/Passes.h.inc"
} // namespace quern

using namespace mlir;
using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
namespace json = llvm::json;

namespace {
struct Allocate : FalliblePass<quern::impl::AllocatePassBase<Allocate>> {
  using Base::Base;

  Error run() override;
  Error choose();
  Error take();
  Error write();
};
} // namespace

/// What a weight may be; nothing in the attribute is trusted.
static Expected<Item> itemOf(WeightOp weight, SmallVectorImpl<FormatAttr> &formats) {
  Item item;
  item.name = weight.getSymName().str();
  item.elements = uint64_t(weight.getTensorType().getNumElements());
  auto list = weight->getAttrOfType<ArrayAttr>(kChoicesAttr);
  for (Attribute entry : list ? list.getValue() : ArrayRef<Attribute>()) {
    auto choice = dyn_cast<DictionaryAttr>(entry);
    auto form = choice ? choice.getAs<FormatAttr>("format") : FormatAttr();
    auto size = choice ? choice.getAs<IntegerAttr>("bytes") : IntegerAttr();
    auto loss = choice ? choice.getAs<FloatAttr>("loss") : FloatAttr();
    if (!form || !size || !loss || size.getValue().getBitWidth() > 64 || size.getInt() < 0)
      return createStringError("weight '" + item.name +
                               "': expected choices of format, bytes and loss");
    item.options.push_back(
        {format::formatName(form.getSpec()), uint64_t(size.getInt()), loss.getValueAsDouble()});
    formats.push_back(form);
  }
  if (item.options.empty())
    return createStringError("weight '" + item.name + "' has no choices");
  return item;
}

Error Allocate::choose() {
  std::vector<Item> items;
  SmallVector<WeightOp> weights;
  std::vector<SmallVector<FormatAttr>> formats;
  uint64_t elements = 0;
  for (auto weight : getOperation().getOps<WeightOp>()) {
    if (!weight->hasAttr(kChoicesAttr))
      continue;
    Expected<Item> item = itemOf(weight, formats.emplace_back());
    if (!item)
      return item.takeError();
    elements += item->elements;
    items.push_back(std::move(*item));
    weights.push_back(weight);
  }
  if (items.empty())
    return createStringError("no weight has choices; run quern-estimate-losses first");
  if (!(bits >= 0 && bits <= 64))
    return createStringError("bits must lie in [0, 64]");
  Expected<Engine> run = parseEngine(engine);
  if (!run)
    return run.takeError();
  Limits limits(bytes ? uint64_t(bytes) : uint64_t(bits * double(elements) / 8));
  Expected<Assignment> found = (*run)(items, limits);
  if (!found)
    return found.takeError();
  for (auto [weight, own, index] : llvm::zip_equal(weights, formats, found->choice))
    weight->setAttr(kChosenFormatAttr, own[index]);
  chosen = int64_t(items.size());
  std::string ratio;
  if (Expected<Assignment> same = uniform(items, limits)) {
    if (same->cost > 0)
      ratio = llvm::formatv(", {0:f3} of one format for all", found->cost / same->cost).str();
  } else {
    llvm::consumeError(same.takeError());
  }
  getOperation()->emitRemark() << engine << ": " << found->bytes << " bytes, "
                               << llvm::formatv("{0:f3} bits a weight, expected loss {1:g}",
                                                double(found->bytes) * 8 / double(elements),
                                                found->cost)
                                      .str()
                               << ratio;
  return Error::success();
}

/// The choice of a file.
Error Allocate::take() {
  auto read = readAllocation(file);
  if (!read)
    return read.takeError();
  SymbolTable symbols(getOperation());
  SmallVector<WeightOp> matrices = findMatrices(getOperation());
  llvm::StringSet<> named;
  for (const auto &[name, text] : *read) {
    auto weight = symbols.lookup<WeightOp>(name);
    if (!weight || !llvm::is_contained(matrices, weight))
      return createStringError("'" + file + "' is of another model: no float matrix is called '" +
                               name + "'");
    Expected<format::Spec> spec = format::parseBaseFormat(text);
    if (!spec)
      return createStringError("'" + file + "': tensor '" + name +
                               "': " + llvm::toString(spec.takeError()));
    weight->setAttr(kChosenFormatAttr, FormatAttr::get(&getContext(), *spec));
    named.insert(name);
  }
  for (WeightOp weight : matrices)
    if (!named.contains(weight.getSymName()))
      return createStringError("'" + file + "' names no format for tensor '" + weight.getSymName() +
                               "'");
  chosen = int64_t(named.size());
  return Error::success();
}

Error Allocate::write() {
  json::Object tensors;
  for (auto weight : getOperation().getOps<WeightOp>())
    if (auto form = weight->getAttrOfType<FormatAttr>(kChosenFormatAttr))
      tensors[weight.getSymName()] = format::formatName(form.getSpec());
  json::Object out{{"quern", "allocation"}, {"version", 1}, {"tensors", std::move(tensors)}};
  Expected<OutputFile> made = OutputFile::create(output, /*force=*/true);
  if (!made)
    return made.takeError();
  made->stream() << llvm::formatv("{0:2}\n", json::Value(std::move(out)));
  return made->keep();
}

Error Allocate::run() {
  if ((bytes > 0) + (bits != 0) + !file.empty() != 1)
    return createStringError("expected one of bytes, bits and file");
  if (Error e = file.empty() ? choose() : take())
    return e;
  migrate::leaveCounts(getOperation(), {{"chosen", int64_t(chosen)}});
  return output.empty() ? Error::success() : write();
}
