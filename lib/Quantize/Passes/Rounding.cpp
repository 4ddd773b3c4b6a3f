//===- Rounding.cpp - What passes that round weights share ----------------===//
//
// See Rounding.h.
//
//===----------------------------------------------------------------------===//
#include "Rounding.h"
#include "quern/Format/Matrix.h"
#include "quern/Quantize/Migrate/ScaleSites.h"

using namespace mlir;
using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
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
    if (type.getRank() <= 3 && getFormat(type).isPlain() && !uses.empty() &&
        llvm::all_of(uses, suits))
      out.push_back(weight);
    else if (left)
      ++*left;
  }
  return out;
}

Expected<Rounder> Rounder::create(ModuleOp module, StringRef statistics, StringRef solver,
                                  double damping) {
  Rounder out;
  out.share = damping;
  if (!(damping >= 0 && damping <= 1))
    return createStringError("damping must lie in [0, 1]");
  if (Error e = parseMethod(solver).moveInto(out.method))
    return std::move(e);
  if (!statistics.empty())
    if (Error e = Statistics::readAny(statistics, nullptr).moveInto(out.known))
      return std::move(e);
  SymbolTable symbols(module);
  module.walk([&](ExpertLinearOp op) {
    WeightOp weight = migrate::baseOf(migrate::weightOf(op.getWeight(), symbols), symbols);
    if (!weight)
      return;
    ArrayRef<int64_t> shape = weight.getTensorType().getShape();
    out.chosen[weight.getSymName()] = op.getIds().getType().getShape().back();
    out.known.splitExperts(weight.getSymName(), shape.front(), shape.back());
  });
  return out;
}

Expected<std::vector<Subject::Part>> Rounder::partsOf(WeightOp weight) const {
  ArrayRef<int64_t> shape = weight.getTensorType().getShape();
  bool isStack = shape.size() > 2;
  std::vector<const InputStatistics *> inputs;
  for (int64_t e = 0, count = isStack ? shape.front() : 1; e < count; ++e) {
    const InputStatistics *input = known.find(weight.getSymName(), isStack ? int32_t(e) : -1);
    if (input && input->columns != shape.back())
      return createStringError("the statistics are of another model: '" + weight.getSymName() +
                               "' has " + Twine(shape.back()) + " columns, they have " +
                               Twine(input->columns));
    inputs.push_back(input && input->rows ? input : nullptr);
  }
  return Subject::partsOf(inputs, isStack ? double(chosen.lookup(weight.getSymName())) : 1);
}

/// Makes the Hessian that of an input.
Error Rounder::findHessian(const InputStatistics *input, int64_t columns, StringRef name) {
  if (hessian && input == hessianInput && hessian->columns == columns)
    return Error::success();
  hessianInput = input;
  if (!input) {
    hessian = Hessian::identity(columns);
    return Error::success();
  }
  hessian.reset(); // before the next takes its memory
  Expected<Hessian> made = Hessian::create(input->meanHessian(), columns, share);
  if (!made)
    return createStringError("weight '" + name + "': " + llvm::toString(made.takeError()));
  hessian = std::move(*made);
  return Error::success();
}

Expected<std::vector<Rounded>> Rounder::round(WeightOp weight, ArrayRef<float> values,
                                              ArrayRef<format::Spec> specs) {
  Expected<std::vector<Subject::Part>> parts = partsOf(weight);
  if (!parts)
    return parts.takeError();
  int64_t columns = weight.getTensorType().getShape().back();
  size_t size = values.size() / parts->size();
  SolveOptions options{method, SolveOptions().sweeps, 0, {}};
  if (auto leading = weight->getAttrOfType<DenseI32ArrayAttr>(kSplitColumnsAttr))
    options.leading = leading.asArrayRef();
  std::vector<Rounded> out(specs.size());
  for (Rounded &rounded : out)
    rounded.values.resize(values.size());
  for (auto [i, part] : llvm::enumerate(*parts)) {
    std::string name = weight.getSymName().str();
    if (parts->size() > 1)
      name += "', expert '" + std::to_string(i);
    if (Error e = findHessian(part.input, columns, name))
      return std::move(e);
    for (auto [spec, rounded] : llvm::zip_equal(specs, out)) {
      Expected<Solution> solution = quantize::solve(
          spec, values.slice(i * size, size), int64_t(size) / columns, *hessian, options, name);
      if (!solution)
        return solution.takeError();
      Expected<std::vector<uint8_t>> bytes = format::packMatrix(spec, solution->components);
      if (!bytes)
        return bytes.takeError();
      llvm::append_range(rounded.bytes, *bytes);
      if (Error e = format::decode(spec, solution->components,
                                   llvm::MutableArrayRef(rounded.values).slice(i * size, size)))
        return std::move(e);
      rounded.error += part.weight * solution->error;
    }
  }
  return out;
}
