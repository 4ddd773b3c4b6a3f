//===- Rounding.cpp - What passes that round weights share ----------------===//
//
// See Rounding.h.
//
//===----------------------------------------------------------------------===//
#include "Rounding.h"
#include "quern/Quantize/Migrate/ScaleSites.h"

using namespace mlir;
using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Expected;

SmallVector<WeightOp> quern::quantize::findMatrices(ModuleOp module, int64_t *left) {
  migrate::WeightReaders readers(module);
  SmallVector<WeightOp> out;
  for (auto weight : module.getOps<WeightOp>()) {
    RankedTensorType type = weight.getTensorType();
    if (weight.isView() || type.getRank() < 2)
      continue;
    SmallVector<OpOperand *> uses = readers.readers(weight);
    auto suits = [](OpOperand *use) {
      Operation *op = use->getOwner();
      // A router's few weights decide which experts run.
      if (isa<LinearOp>(op) && llvm::any_of(op->getUsers(), llvm::IsaPred<RouteOp>))
        return false;
      return isa<EmbeddingOp>(op) || (isa<WeightedOpInterface>(op) &&
                                      &cast<WeightedOpInterface>(op).getWeightOperand() == use);
    };
    if (type.getRank() == 2 && getFormat(type).isPlain() && !uses.empty() &&
        llvm::all_of(uses, suits))
      out.push_back(weight);
    else if (left)
      ++*left;
  }
  return out;
}

Expected<Rounder> Rounder::create(StringRef statistics, StringRef solver, double damping) {
  Rounder out;
  out.share = damping;
  if (!(damping >= 0 && damping <= 1))
    return createStringError("damping must lie in [0, 1]");
  if (llvm::Error e = parseMethod(solver).moveInto(out.method))
    return std::move(e);
  if (!statistics.empty())
    if (llvm::Error e = Statistics::readAny(statistics, nullptr).moveInto(out.known))
      return std::move(e);
  return out;
}

Expected<const InputStatistics *> Rounder::inputOf(WeightOp weight) const {
  const InputStatistics *input = known.find(weight.getSymName());
  int64_t columns = weight.getTensorType().getShape().back();
  if (input && input->columns != columns)
    return createStringError("the statistics are of another model: '" + weight.getSymName() +
                             "' has " + Twine(columns) + " columns, they have " +
                             Twine(input->columns));
  return input && input->rows ? input : nullptr;
}

Expected<Solution> Rounder::solve(WeightOp weight, ArrayRef<float> values,
                                  const format::Spec &spec) {
  Expected<const InputStatistics *> input = inputOf(weight);
  if (!input)
    return input.takeError();
  int64_t columns = weight.getTensorType().getDimSize(1);
  if (!hessian || *input != hessianInput || hessian->columns != columns) {
    hessianInput = *input;
    if (!*input) {
      hessian = Hessian::identity(columns);
    } else {
      hessian.reset(); // before the next takes its memory
      Expected<Hessian> made = Hessian::create((*input)->meanHessian(), columns, share);
      if (!made)
        return createStringError("weight '" + weight.getSymName() +
                                 "': " + llvm::toString(made.takeError()));
      hessian = std::move(*made);
    }
  }
  SolveOptions options{method, SolveOptions().sweeps, 0, {}};
  if (auto leading = weight->getAttrOfType<DenseI32ArrayAttr>(kSplitColumnsAttr))
    options.leading = leading.asArrayRef();
  return quantize::solve(spec, values, weight.getTensorType().getDimSize(0), *hessian, options,
                         weight.getSymName());
}
