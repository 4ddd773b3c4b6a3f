//===- ScaleSites.cpp - Where channels may be scaled ----------------------===//
//
// See ScaleSites.h. Every use of every value and weight involved is looked at.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Migrate/ScaleSites.h"
#include "llvm/ADT/MapVector.h"

using namespace mlir;
using namespace quern;
using namespace quern::migrate;

std::string quern::migrate::describe(Operation *op) {
  std::string text = "'" + op->getName().getStringRef().str() + "'";
  if (auto name = op->getLoc()->findInstanceOf<NameLoc>())
    text += " (" + name.getName().str() + ")";
  return text;
}

void quern::migrate::leaveCounts(ModuleOp module, ArrayRef<std::pair<StringRef, int64_t>> counts) {
  Builder b(module.getContext());
  SmallVector<NamedAttribute> entries;
  for (auto [name, count] : counts)
    entries.push_back(b.getNamedAttr(name, b.getI64IntegerAttr(count)));
  module->setAttr(kCountsAttr, b.getDictionaryAttr(entries));
}

SmallVector<std::pair<std::string, int64_t>> quern::migrate::takeCounts(ModuleOp module) {
  SmallVector<std::pair<std::string, int64_t>> out;
  if (auto entries = module->getAttrOfType<DictionaryAttr>(kCountsAttr))
    for (NamedAttribute entry : entries)
      if (auto count = dyn_cast<IntegerAttr>(entry.getValue()))
        out.emplace_back(entry.getName().str(), count.getInt());
  module->removeAttr(kCountsAttr);
  return out;
}

WeightOp quern::migrate::baseOf(WeightOp weight, SymbolTable &symbols) {
  return weight && weight.isView() ? symbols.lookup<WeightOp>(*weight.getSource()) : weight;
}

WeightOp quern::migrate::weightOf(Value operand, SymbolTable &symbols) {
  auto use = operand ? operand.getDefiningOp<UseOp>() : UseOp();
  return use ? symbols.lookup<WeightOp>(use.getWeight()) : WeightOp();
}

//===----------------------------------------------------------------------===//
// WeightReaders
//===----------------------------------------------------------------------===//

static std::pair<int64_t, int64_t> rowsOf(WeightOp weight) {
  int64_t begin = weight.isView() ? int64_t(*weight.getRowBegin()) : 0;
  return {begin, begin + weight.getTensorType().getDimSize(0)};
}

WeightReaders::WeightReaders(ModuleOp module) : symbols(module) {
  module.walk([&](UseOp use) {
    auto weight = symbols.lookup<WeightOp>(use.getWeight());
    if (!weight)
      return;
    auto [begin, end] = rowsOf(weight);
    for (OpOperand &operand : use.getResult().getUses())
      byBase[baseOf(weight, symbols)].push_back({begin, end, &operand});
  });
}

SmallVector<OpOperand *> WeightReaders::readers(WeightOp weight) const {
  SmallVector<OpOperand *> out;
  auto [begin, end] = rowsOf(weight);
  auto found = byBase.find(baseOf(weight, symbols));
  if (found != byBase.end())
    for (const Reader &reader : found->second)
      if (reader.begin < end && begin < reader.end)
        out.push_back(reader.operand);
  return out;
}

//===----------------------------------------------------------------------===//
// The analysis
//===----------------------------------------------------------------------===//

namespace {
class Analysis {
public:
  Analysis(ModuleOp module, bool explicitOps)
      : module(module), explicitOps(explicitOps), symbols(module), readers(module) {}
  ScaleAnalysis run();

private:
  bool refuse(Operation *use, const Twine &reason) {
    refusal.use = use;
    refusal.reason = reason.str();
    return false;
  }
  bool examine(ScaleSite &site);
  bool examineUses(ScaleSite &site);
  bool examineMatrices(ScaleSite &site);
  bool examineProducer(ScaleSite &site);
  bool examineNorm(ScaleSite &site, Operation *norm, ArrayRef<Value> vectors);
  bool examineRows(ScaleSite &site, Operation *reader, Value linear, StringRef what);
  bool hasOwnRows(Operation *reader, Value made);
  bool isAlone(Value stored, Operation *owner);

  ModuleOp module;
  bool explicitOps;
  SymbolTable symbols;
  WeightReaders readers;
  ScaleRefusal refusal; ///< of the site in hand
};
} // namespace

/// Whether `owner` alone reads the stored tensor.
bool Analysis::isAlone(Value stored, Operation *owner) {
  WeightOp weight = weightOf(stored, symbols);
  if (!weight)
    return refuse(owner, describe(owner) + " reads a tensor that is no stored weight");
  for (OpOperand *reader : readers.readers(weight))
    if (reader->getOwner() != owner)
      return refuse(reader->getOwner(),
                    describe(reader->getOwner()) + " reads @" + weight.getSymName() + ", too");
  return true;
}

bool Analysis::examineUses(ScaleSite &site) {
  for (OpOperand &use : site.input.getUses()) {
    auto product = dyn_cast<WeightedOpInterface>(use.getOwner());
    bool input = product && &product.getInputOperand() == &use;
    if (!input && !isa<ObserveOp>(use.getOwner()))
      return refuse(use.getOwner(), describe(use.getOwner()) + " reads the channels, too");
  }
  return true;
}

bool Analysis::examineMatrices(ScaleSite &site) {
  for (WeightedOpInterface product : site.consumers) {
    WeightOp weight = weightOf(product.getWeightOperand().get(), symbols);
    if (!weight)
      return refuse(product, describe(product) + " reads a tensor that is no stored weight");
    // Columns belong to all rows: of a fused matrix, too.
    WeightOp base = baseOf(weight, symbols);
    for (OpOperand *reader : readers.readers(base)) {
      auto other = dyn_cast<WeightedOpInterface>(reader->getOwner());
      if (!other || &other.getWeightOperand() != reader ||
          other.getInputOperand().get() != site.input)
        return refuse(reader->getOwner(),
                      describe(reader->getOwner()) + " reads @" + base.getSymName() + ", too");
    }
    if (!llvm::is_contained(site.matrices, base))
      site.matrices.push_back(base);
  }
  return true;
}

bool Analysis::examineNorm(ScaleSite &site, Operation *norm, ArrayRef<Value> vectors) {
  for (Value vector : vectors) {
    if (!vector)
      continue;
    if (cast<RankedTensorType>(vector.getType()).getDimSize(0) != site.channels())
      return refuse(norm, describe(norm) + " has one gain for several heads");
    if (!isAlone(vector, norm))
      return false;
  }
  site.absorber = Absorber::Norm;
  site.producer = norm;
  site.scales = site.channels();
  return true;
}

/// Whether `reader` alone reads `made`, once, and it comes from a product with rows of its own.
bool Analysis::hasOwnRows(Operation *reader, Value made) {
  auto product = made.getDefiningOp<WeightedOpInterface>();
  auto linear = dyn_cast_or_null<LinearOp>(made.getDefiningOp());
  return product && llvm::hasSingleElement(made.getUses()) &&
         made.getUses().begin()->getOwner() == reader &&
         isAlone(product.getWeightOperand().get(), product) &&
         (!linear || !linear.getBias() || isAlone(linear.getBias(), linear));
}

/// `linear`: the operand in which `reader` is linear, to be scaled by its product's rows.
bool Analysis::examineRows(ScaleSite &site, Operation *reader, Value linear, StringRef what) {
  for (OpOperand &use : linear.getUses())
    if (use.getOwner() != reader)
      return refuse(use.getOwner(),
                    describe(use.getOwner()) + " reads the " + what + " channels, too");
  if (llvm::count(reader->getOperands(), linear) != 1)
    return refuse(reader, describe(reader) + " reads the " + what + " channels twice");
  Operation *product = linear.getDefiningOp();
  if (!product || !isa<WeightedOpInterface>(product))
    return refuse(product ? product : reader,
                  (product ? describe(product) : "an argument of the function") + " makes the " +
                      what + " channels and has no rows to scale");
  auto weighted = cast<WeightedOpInterface>(product);
  if (!isAlone(weighted.getWeightOperand().get(), product))
    return false;
  if (auto op = dyn_cast<LinearOp>(product); op && op.getBias() && !isAlone(op.getBias(), product))
    return false;
  site.producer = product;
  return true;
}

bool Analysis::examineProducer(ScaleSite &site) {
  Operation *producer = site.input.getDefiningOp();
  if (auto norm = dyn_cast_or_null<RMSNormOp>(producer))
    return examineNorm(site, norm, {norm.getGain()});
  if (auto norm = dyn_cast_or_null<LayerNormOp>(producer))
    return examineNorm(site, norm, {norm.getGain(), norm.getBias()});
  if (auto gate = dyn_cast_or_null<GatedActivationOp>(producer)) {
    site.absorber = Absorber::Gate;
    site.scales = site.channels();
    if (!examineRows(site, gate, gate.getUp(), "ungated"))
      return false;
    if (hasOwnRows(gate, gate.getGate()))
      site.gateProducer = gate.getGate().getDefiningOp();
    return true;
  }
  if (auto attention = dyn_cast_or_null<AttentionOp>(producer)) {
    site.absorber = Absorber::Attention;
    site.headDim = attention.getHeadDim();
    site.headsPerGroup = attention.getHeads() / attention.getKvHeads();
    site.scales = attention.getKvHeads() * attention.getHeadDim();
    return examineRows(site, attention, attention.getV(), "value");
  }
  if (!producer)
    return refuse(site.consumers.front(), "an argument of the function cannot absorb a scale");
  return refuse(producer, describe(producer) + ", which makes the channels, cannot absorb a scale");
}

bool Analysis::examine(ScaleSite &site) {
  if (examineUses(site) && examineMatrices(site) && examineProducer(site))
    return true;
  site.matrices.clear();
  if (!explicitOps || !examineMatrices(site))
    return false;
  site.absorber = Absorber::Op;
  site.producer = site.input.getDefiningOp();
  site.scales = site.channels();
  return true;
}

ScaleAnalysis Analysis::run() {
  ScaleAnalysis out;
  llvm::MapVector<Value, SmallVector<WeightedOpInterface>> inputs;
  module.walk([&](WeightedOpInterface op) { inputs[op.getInputOperand().get()].push_back(op); });
  for (auto &[input, consumers] : inputs) {
    ScaleSite site;
    site.input = input;
    site.consumers = consumers;
    refusal = {input, consumers.front(), nullptr, ""};
    if (examine(site))
      out.sites.push_back(std::move(site));
    else
      out.refusals.push_back(refusal);
  }
  return out;
}

ScaleAnalysis quern::migrate::findScaleSites(ModuleOp module, bool explicitOps) {
  return Analysis(module, explicitOps).run();
}

void quern::migrate::emitRemarks(const ScaleAnalysis &analysis) {
  for (const ScaleRefusal &refusal : analysis.refusals)
    refusal.product->emitRemark() << "the channels that enter " << describe(refusal.product)
                                  << " are not scaled: " << refusal.reason;
}
