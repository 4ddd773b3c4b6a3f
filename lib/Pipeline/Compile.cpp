//===- Compile.cpp - From a model file to a program ----------------------===//
//
// Reads the model, builds its module and lowers it for every target. Nothing is written before
// everything that can fail early has succeeded.
//
//===----------------------------------------------------------------------===//
#include "Compilation.h"
#include "ModuleData.h"
#include "mlir/Bytecode/BytecodeWriter.h"
#include "mlir/IR/Verifier.h"
#include "quern/Pipeline/EncodeWeights.h"
#include "quern/Pipeline/InspectModule.h"

using namespace mlir;
using namespace quern;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
namespace json = llvm::json;

/// Builds the module from a model file.
Error Compilation::readModel() {
  if (options.source) {
    model = *options.source;
  } else {
    Expected<import::ModelFile> opened = import::open(options.model);
    if (!opened)
      return opened.takeError();
    model = std::move(*opened);
  }
  Expected<import::ModelConfig> read = import::readConfig(model);
  if (!read)
    return read.takeError();
  config = std::move(*read);
  if (options.context > config.context)
    return createStringError(options.model + ": --context " + Twine(options.context) +
                             " is beyond the " + Twine(config.context) +
                             " positions the model was made for");
  // Who compiles to f32 wants the model's own results; a narrower cache would change them.
  auto isMatrixOfF32 = [&](const import::TensorInfo &t) {
    bool coded = format && (options.dequantize || t.spec.isPlain());
    return t.shape.size() < 2 || (coded ? *format : t.spec).isPlain(format::FloatKind::F32);
  };
  if (options.kvCache.empty() && llvm::all_of(model.tensors, isMatrixOfF32))
    build.cache = CacheElement::F32;
  build.context = options.context ? options.context : std::min(config.context, defaultContext);

  Expected<std::unique_ptr<OwnedModule>> empty = parseModule("module {}");
  if (!empty)
    return empty.takeError();
  owned = std::move(*empty);
  auto built = architectures::buildModel(*owned->context, model, config, build);
  if (!built)
    return built.takeError();
  owned->module = std::move(*built);
  return Error::success();
}

/// Takes the module from a file; what the options say otherwise is changed in it.
Error Compilation::readModuleFile() {
  isIr = true;
  Expected<std::unique_ptr<OwnedModule>> read = quern::readModuleFile(options.model);
  if (!read)
    return read.takeError();
  owned = std::move(*read);
  ModuleOp module = *owned->module;
  auto known = module->getAttrOfType<DictionaryAttr>(QuernDialect::kModelAttr);
  auto text = [&](StringRef key) {
    auto value = known ? known.getAs<StringAttr>(key) : StringAttr();
    return value ? value.str() : std::string();
  };
  config.name = text("name");
  config.architecture = text("architecture");
  for (auto [key, value] : {std::pair("vocab", &config.vocab), std::pair("width", &config.width)}) {
    auto number = known ? known.getAs<IntegerAttr>(key) : IntegerAttr();
    if (!number || number.getValue().getBitWidth() > 64 || number.getInt() < 1)
      return createStringError(options.model + ": '" + QuernDialect::kModelAttr +
                               "' has no positive '" + key + "'");
    *value = number.getInt();
  }
  KvCacheType cache = cacheOf(module);
  if (!cache)
    return createStringError(options.model + ": it has no function with a KV cache");
  config.context = cache.getContextLength();
  if (options.context > config.context)
    return createStringError(options.model + ": --context " + Twine(options.context) +
                             " is beyond the " + Twine(config.context) +
                             " positions this IR was made for");
  build.context = options.context ? options.context : config.context;
  if (options.kvCache.empty())
    build.cache = cache.getElement();
  setCache(module, KvCacheType::get(module.getContext(), cache.getLayers(), cache.getKvHeads(),
                                    cache.getHeadDim(), build.cache, build.context));
  if (build.activations != ActivationFormat::Fast)
    module.walk([&](WeightedOpInterface op) {
      auto linear = dyn_cast<LinearOp>(op.getOperation());
      auto type = cast<RankedTensorType>(op.getWeightOperand().get().getType());
      if (!getFormat(type).isPlain() && !(linear && linear.getStaticScale()))
        op.setActivations(build.activations);
    });
  return Error::success();
}

Error Compilation::buildModel() {
  if (Error e = !options.source && isModule(options.model) ? readModuleFile() : readModel())
    return e;
  if (Error e = verifyModel(*owned))
    return createStringError(options.model + ": " + llvm::toString(std::move(e)));
  if (!options.passes.empty()) {
    if (Error e = runPasses(*owned, options.passes))
      return createStringError("--passes: " + llvm::toString(std::move(e)));
    if (Error e = verifyModel(*owned))
      return createStringError("after --passes: " + llvm::toString(std::move(e)));
    ModuleOp module = *owned->module;
    std::string passes = options.passes;
    if (auto before = module->getAttrOfType<StringAttr>(QuernDialect::kPassesAttr))
      passes = before.str() + "," + passes;
    module->setAttr(QuernDialect::kPassesAttr, StringAttr::get(module.getContext(), passes));
  }
  if (options.rewrite) {
    if (Error e = options.rewrite(*owned->module))
      return e;
    if (Error e = verifyModel(*owned))
      return createStringError(options.model + ": " + llvm::toString(std::move(e)));
  }
  if (format)
    if (Error e = encodeWeights(*owned->module, *format, build.activations, options.dequantize))
      return e;
  if (options.observers)
    if (Error e = runPasses(*owned, "quern-insert-observers"))
      return e;
  if (options.boundaries)
    if (Error e = runPasses(*owned, "quern-insert-boundaries"))
      return e;
  if (failed(mlir::verify(*owned->module)))
    return createStringError(options.model + ": " + owned->diagnostics);
  llvm::raw_string_ostream os(bytecode);
  if (failed(writeBytecodeToFile(*owned->module, os)))
    return createStringError("cannot serialize the module: " + owned->diagnostics);
  return Error::success();
}

/// The kernel level of every target: what the plan needs to know.
Error Compilation::lowerForPlan() {
  for (const target::TargetInfo &t : targets) {
    auto kernels = parseModule(bytecode);
    if (!kernels)
      return kernels.takeError();
    if (Error e = lowerToKernels(**kernels, t))
      return createStringError("target '" + t.name + "': " + llvm::toString(std::move(e)));
    auto found = collectFacts(*(*kernels)->module);
    if (!found)
      return found.takeError();
    facts.push_back(std::move(*found));
    if (facts.back().slots != facts[0].slots || facts.back().cacheBytes != facts[0].cacheBytes ||
        facts.back().maxTokens != facts[0].maxTokens)
      return createStringError("targets '" + targets[0].name + "' and '" + t.name +
                               "' do not agree on weights, cache or step size");
    if (options.emit == EmitKind::Kernels && !options.dryRun) {
      auto file = OutputFile::create(output, options.force);
      if (!file)
        return file.takeError();
      (*kernels)->module->print(file->stream());
      return file->keep();
    }
  }
  Expected<PackPlan> planned = planWeights(*owned->module, facts[0].slots);
  if (!planned)
    return planned.takeError();
  plan = std::move(*planned);
  return Error::success();
}

Error Compilation::writeModule() {
  if (options.weightsBeside) {
    if (Error e = readTokenizer())
      return e;
    return writeModuleFile(*owned->module, output, options.emit == EmitKind::Bytecode,
                           options.force, {tokenizer, chat});
  }
  auto file = OutputFile::create(output, options.force);
  if (!file)
    return file.takeError();
  if (options.emit == EmitKind::Bytecode)
    file->stream() << bytecode;
  else
    owned->module->print(file->stream());
  return file->keep();
}

Expected<json::Object> Compilation::run() {
  if (Error e = checkOptions())
    return std::move(e);
  if (Error e = step("read", 0))
    return std::move(e);
  if (Error e = buildModel())
    return std::move(e);
  if (!options.dryRun && (options.emit == EmitKind::Mlir || options.emit == EmitKind::Bytecode)) {
    if (Error e = writeModule())
      return std::move(e);
    return shortReport();
  }
  if (Error e = step("plan", 0))
    return std::move(e);
  if (Error e = lowerForPlan())
    return std::move(e);
  if (options.dryRun)
    return report();
  Error written = options.emit == EmitKind::Kernels ? Error::success()
                  : options.emit == EmitKind::Llvm || options.emit == EmitKind::Assembly
                      ? writeText()
                      : writeProgram();
  if (!temporary.empty())
    llvm::sys::fs::remove_directories(temporary);
  if (written)
    return std::move(written);
  if (options.emit == EmitKind::Kernels)
    return shortReport();
  return report();
}

Expected<json::Object> quern::compile(const CompileOptions &options) {
  return Compilation(options).run();
}
