//===- EstimateLosses.cpp - What each weight would lose -------------------===//
//
// See Passes.td.
//
//===----------------------------------------------------------------------===//
#include "Rounding.h"
#include "mlir/IR/Builders.h"
#include "quern/Format/Matrix.h"
#include "quern/Format/Size.h"
#include "quern/Quantize/Migrate/FalliblePass.h"
#include "quern/Quantize/Migrate/ScaleSites.h"
#include "quern/Quantize/Migrate/WeightStore.h"
#include "quern/Quantize/Passes/Passes.h"
#include "quern/Quantize/Sensitivity.h"
#include "quern/Reference/Interpreter.h"
#include "llvm/Support/FormatVariadic.h"
#include <cmath>

namespace quern {
#define GEN_PASS_DEF_ESTIMATELOSSESPASS
#include "quern/Quantize/Passes/Passes.h.inc"
} // namespace quern

using namespace mlir;
using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

namespace {
/// Runs the module over a sequence with other values of one weight.
class Divergence {
public:
  Divergence(ModuleOp module, SmallVector<int32_t> tokens, StringRef data)
      : module(module), tokens(std::move(tokens)), data(data) {}

  Expected<double> with(StringRef name, ArrayRef<float> values) {
    if (base.empty())
      if (Error e = predict(module).moveInto(base))
        return std::move(e);
    OwningOpRef<ModuleOp> copy = module.clone();
    migrate::WeightStore store(*copy, data);
    if (Error e = store.store(store.symbolTable().lookup<WeightOp>(name), values))
      return std::move(e);
    Expected<std::vector<double>> other = predict(*copy);
    if (!other)
      return other.takeError();
    double sum = 0;
    for (auto [a, b] : llvm::zip_equal(base, *other))
      sum += std::exp(a) * (a - b);
    return std::max(0.0, sum / double(tokens.size()));
  }

private:
  /// Log-probabilities [tokens][vocabulary].
  Expected<std::vector<double>> predict(ModuleOp of) {
    reference::InterpreterOptions options;
    options.activations = reference::ActivationFormat::F32;
    auto interpreter = reference::Interpreter::create(of, options);
    if (!interpreter)
      return interpreter.takeError();
    Expected<std::vector<float>> logits = (*interpreter)->forward(tokens, 0);
    if (!logits)
      return logits.takeError();
    std::vector<double> out(logits->begin(), logits->end());
    size_t vocabulary = size_t((*interpreter)->vocabulary());
    for (size_t i = 0; i < out.size(); i += vocabulary) {
      llvm::MutableArrayRef<double> row(out.data() + i, vocabulary);
      double most = *llvm::max_element(row), sum = 0;
      for (double v : row)
        sum += std::exp(v - most);
      for (double &v : row)
        v -= most + std::log(sum);
    }
    return out;
  }

  ModuleOp module;
  SmallVector<int32_t> tokens;
  StringRef data;
  std::vector<double> base;
};

struct EstimateLosses : FalliblePass<quern::impl::EstimateLossesPassBase<EstimateLosses>> {
  using Base::Base;

  Error run() override;
  Error estimateMatrix(WeightOp weight, ArrayRef<format::Spec> specs, Rounder &rounder,
                       const ProviderInfo &info, Divergence &divergence);
};
} // namespace

Error EstimateLosses::estimateMatrix(WeightOp weight, ArrayRef<format::Spec> specs,
                                     Rounder &rounder, const ProviderInfo &info,
                                     Divergence &divergence) {
  RankedTensorType type = weight.getTensorType();
  migrate::WeightStore store(getOperation(), data);
  Expected<std::vector<float>> values = store.load(weight);
  if (!values)
    return values.takeError();
  Subject subject;
  if (Error e = rounder.partsOf(weight).moveInto(subject.parts))
    return e;
  Expected<std::vector<Rounded>> rounded = rounder.round(weight, *values, specs);
  if (!rounded)
    return rounded.takeError();
  subject.name = weight.getSymName().str();
  subject.columns = type.getShape().back();
  subject.rows = type.getNumElements() / subject.columns;
  subject.damping = damping;
  subject.values = [&]() -> Values { return *values; };
  subject.divergence = [&](ArrayRef<float> other) {
    return divergence.with(weight.getSymName(), other);
  };
  for (const auto &[spec, form] : llvm::zip_equal(specs, *rounded)) {
    double bits = double(form.bytes.size()) * 8 / double(type.getNumElements());
    std::string name = format::print(spec);
    if (int64_t tile = format::storageTile(spec); tile && subject.columns % tile)
      weight.emitRemark() << "@" << subject.name << " has rows of " << subject.columns
                          << " elements, which tiles of " << tile << " (" << name
                          << ") do not divide: padded, they take "
                          << llvm::formatv("{0:f3} bits a weight", bits).str();
    subject.choices.push_back(
        {name, bits, form.error, [&values = form.values]() -> Values { return values; }});
    if (std::fabs(bits - 4.5) < std::fabs(subject.choices[subject.typical].bits - 4.5))
      subject.typical = subject.choices.size() - 1;
  }
  Losses losses = info.run(subject);
  if (!losses)
    return createStringError("weight '" + weight.getSymName() +
                             "': " + llvm::toString(losses.takeError()));
  Builder builder(&getContext());
  SmallVector<Attribute> choices;
  for (const auto &[spec, form, loss] : llvm::zip_equal(specs, *rounded, *losses))
    choices.push_back(builder.getDictionaryAttr(
        {builder.getNamedAttr("format", FormatAttr::get(&getContext(), spec)),
         builder.getNamedAttr("bytes", builder.getI64IntegerAttr(int64_t(form.bytes.size()))),
         builder.getNamedAttr("loss", builder.getF64FloatAttr(loss))}));
  weight->setAttr(kChoicesAttr, builder.getArrayAttr(choices));
  return Error::success();
}

Error EstimateLosses::run() {
  if (formats.empty())
    return createStringError("no formats given (formats=q4_K,q6_K)");
  SmallVector<format::Spec> specs;
  for (const std::string &name : formats) {
    Expected<format::Spec> spec = format::parseBaseFormat(name);
    if (!spec)
      return spec.takeError();
    specs.push_back(std::move(*spec));
  }
  const ProviderInfo *info = nullptr;
  if (Error e = parseProvider(provider).moveInto(info))
    return e;
  if (info->runs && tokens.empty())
    return createStringError("provider '" + provider +
                             "' runs the model: expected tokens=... to run it over");
  if (info->runs)
    if (Error e = migrate::checkDataFolder(data, "weights that are tried"))
      return e;
  Expected<Rounder> rounder = Rounder::create(getOperation(), statistics, solver, damping);
  if (!rounder)
    return rounder.takeError();
  int64_t others = 0, done = 0;
  Divergence divergence(getOperation(), SmallVector<int32_t>(tokens.begin(), tokens.end()), data);
  for (WeightOp weight : findMatrices(getOperation(), &others)) {
    if (Error e = estimateMatrix(weight, specs, *rounder, *info, divergence))
      return e;
    ++done;
  }
  estimated = done;
  left = others;
  migrate::leaveCounts(getOperation(), {{"estimated", done}, {"left", others}});
  return Error::success();
}
