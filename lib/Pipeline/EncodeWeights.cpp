//===- EncodeWeights.cpp - Chooses another format for weights -------------===//
//
// Before:  quern.weight @w : tensor<NxKxf32, #bf16> from [...]
// After:   quern.weight @w.stored : tensor<NxKxf32, #bf16> from [...]
//          quern.weight @w : tensor<NxKxf32, #q4_0> {quern.encoded_from = @w.stored}
//
//===----------------------------------------------------------------------===//
#include "quern/Pipeline/EncodeWeights.h"
#include "mlir/IR/Builders.h"
#include "quern/Pipeline/WeightData.h"
#include "llvm/ADT/DenseSet.h"

using namespace mlir;
using namespace quern;

/// A router's few weights decide which experts run; they stay as they are.
static bool choosesExperts(UseOp use) {
  return llvm::any_of(use->getUsers(), [](Operation *user) {
    return isa<LinearOp>(user) && llvm::any_of(user->getUsers(), llvm::IsaPred<RouteOp>);
  });
}

static bool learnsTable(const format::Spec &spec) {
  return (spec.code.kind == format::Code::Kind::Table && spec.code.table.isLearned()) ||
         llvm::any_of(spec.terms, learnsTable);
}

/// Splits and learned tables belong to a matrix as a whole: not to a stack of experts, nor to one
/// that other tensors are rows of. And products alone can read a split.
static bool suits(const format::Spec &spec, WeightOp base, UseOp use, bool isView) {
  bool isSplit = spec.kind == format::Spec::Kind::Split;
  if (!isSplit && !learnsTable(spec))
    return true;
  return !isView && base.getTensorType().getRank() == 2 &&
         (!isSplit || llvm::all_of(use->getUsers(), llvm::IsaPred<LinearOp>));
}

llvm::Error quern::encodeWeights(ModuleOp module, const format::Spec &spec,
                                 ActivationFormat activations, bool codedToo) {
  SymbolTable symbols(module);
  auto baseOf = [&](UseOp use) {
    auto weight = symbols.lookup<WeightOp>(use.getWeight());
    return weight.isView() ? symbols.lookup<WeightOp>(*weight.getSource()) : weight;
  };
  llvm::DenseSet<Operation *> chosen, unsuited;
  SmallVector<UseOp> uses;
  module.walk([&](UseOp use) {
    uses.push_back(use);
    WeightOp base = baseOf(use);
    if (!suits(spec, base, use, symbols.lookup<WeightOp>(use.getWeight()).isView()))
      unsuited.insert(base);
    if (base.getTensorType().getRank() > 1 &&
        (codedToo || getFormat(base.getTensorType()).isPlain()) &&
        getFormat(base.getTensorType()) != spec && !choosesExperts(use))
      chosen.insert(base);
  });
  for (Operation *base : unsuited)
    chosen.erase(base);
  auto retype = [&](RankedTensorType type) {
    return getStoredType(module.getContext(), type.getShape(), spec);
  };
  OpBuilder builder(module.getContext());
  for (auto weight : llvm::make_early_inc_range(module.getOps<WeightOp>())) {
    if (weight.isView()) {
      if (chosen.contains(symbols.lookup<WeightOp>(*weight.getSource())))
        weight.setType(retype(weight.getTensorType()));
      continue;
    }
    if (!chosen.contains(weight))
      continue;
    if (weight->hasAttr(QuernDialect::kEncodedFromAttr))
      return llvm::createStringError(
          "the IR holds '" + weight.getSymName() +
          "' as it was, to be encoded when it is compiled; no other format can be asked of it "
          "(`quern quantize` writes IR with coded weights)");
    std::string storedName = (weight.getSymName() + ".stored").str();
    if (symbols.lookup(storedName))
      return llvm::createStringError("the model has a tensor named '" + storedName + "' already");
    builder.setInsertionPoint(weight);
    WeightOp::create(builder, weight.getLoc(), storedName, weight.getTensorType(),
                     weight.getLayoutAttr(), weight.getComponentsAttr(), FlatSymbolRefAttr(),
                     IntegerAttr());
    weight->setAttr(QuernDialect::kEncodedFromAttr, FlatSymbolRefAttr::get(module.getContext(), storedName));
    weight.removeComponentsAttr();
    weight.removeLayoutAttr();
    weight.setType(retype(weight.getTensorType()));
  }
  for (UseOp use : uses) {
    if (!chosen.contains(baseOf(use)))
      continue;
    use.getResult().setType(retype(use.getType()));
    for (Operation *user : use->getUsers())
      if (auto linear = dyn_cast<WeightedOpInterface>(user)) {
        // A static scale means int8, whatever the weights are.
        if (auto decided = dyn_cast<LinearOp>(user); decided && decided.getStaticScale())
          continue;
        linear.setActivations(spec.isPlain() ? ActivationFormat::F32 : activations);
      }
  }
  return llvm::Error::success();
}
