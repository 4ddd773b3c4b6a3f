//===- Compile.cpp - From a model file to a program -----------------------===//
//
// Reads, lowers every target, links, packs: each step in a function of its own. Nothing
// is written before everything that can fail early has succeeded.
//
//===----------------------------------------------------------------------===//
#include "quern/Pipeline/Compile.h"
#include "TargetCode.h"
#include "quern/Architectures/Architectures.h"
#include "quern/Conversion/LinearDesc.h"
#include "quern/Emit/Link.h"
#include "quern/Emit/ObjectFile.h"
#include "quern/Emit/ProgramTable.h"
#include "quern/Format/Known.h"
#include "quern/Import/ChatTemplate.h"
#include "quern/Import/Tokenizer.h"
#include "quern/Pipeline/EncodeWeights.h"
#include "quern/Pipeline/Register.h"
#include "mlir/Bytecode/BytecodeWriter.h"
#include "mlir/IR/Verifier.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace quern;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
namespace json = llvm::json;

namespace {
/// Positions compiled for when the user does not say: enough for most, without reserving what
/// few need.
constexpr int64_t defaultContext = 4096;

class Compilation {
public:
  explicit Compilation(const CompileOptions &options) : options(options) {}
  Expected<json::Object> run();

private:
  Error checkOptions();
  Error buildModel();
  Error lowerForPlan();
  Error writeModule();
  Error writeText();
  Expected<std::vector<emit::Bytes>> generateCode(emit::CodeKind kind);
  Error writeProgram();
  Error writePayload(StringRef image);
  Error writeSections(emit::PayloadWriter &writer);
  Error writeHeader();
  Expected<std::string> metadata();
  json::Array tensorTable();
  json::Object shortReport();
  json::Object report();
  Error step(StringRef phase, double fraction) {
    if (options.progress && !options.progress(phase, fraction))
      return createStringError("cancelled");
    return Error::success();
  }
  bool besides() const {
    return options.weightsBeside || options.emit == EmitKind::Object ||
           options.emit == EmitKind::Library;
  }

  const CompileOptions &options;
  std::string output;
  std::vector<target::TargetInfo> targets; ///< best first
  import::ModelFile model;
  import::ModelConfig config;
  std::optional<format::Spec> format;
  architectures::BuildOptions build;
  std::unique_ptr<OwnedModule> owned; ///< the model level
  std::string bytecode;               ///< the same
  std::vector<TargetFacts> facts;     ///< by target
  PackPlan plan;
  llvm::SmallString<128> temporary; ///< folder for objects
};

template <typename Enum> Error parseEnum(StringRef what, StringRef text, Enum &out) {
  std::optional<Enum> value;
  if constexpr (std::is_same_v<Enum, CacheElement>)
    value = symbolizeCacheElement(text);
  else
    value = symbolizeActivationFormat(text);
  if (!value)
    return createStringError("unknown " + what + " '" + text + "'; known: " +
                             (std::is_same_v<Enum, CacheElement> ? "f32, f16, q8_0"
                                                                 : "fast, f32, bf16, q8, int8"));
  out = *value;
  return Error::success();
}
} // namespace

static StringRef extension(EmitKind kind) {
  switch (kind) {
  case EmitKind::Mlir:
  case EmitKind::Kernels:
    return ".mlir";
  case EmitKind::Bytecode:
    return ".mlirbc";
  case EmitKind::Llvm:
    return ".ll";
  case EmitKind::Assembly:
    return ".s";
  case EmitKind::Object:
    return ".o";
  case EmitKind::Library:
    return ".a";
  case EmitKind::Shared:
    return ".so";
  case EmitKind::Executable:
    return "";
  }
  llvm_unreachable("all kinds covered");
}

/// What a model is called after its file or folder.
static std::string fileName(StringRef model) {
  llvm::SmallString<128> path(model);
  llvm::sys::fs::make_absolute(path);
  llvm::sys::path::remove_dots(path, true);
  StringRef name = llvm::sys::path::filename(path);
  if (!name.consume_back(".gguf"))
    name.consume_back(".safetensors");
  return name.str();
}

Error Compilation::checkOptions() {
  output = options.output;
  if (output.empty()) {
    std::string name = fileName(options.model);
    output = name + (options.emit == EmitKind::Executable && llvm::sys::fs::is_directory(name)
                         ? ".exe"
                         : extension(options.emit).str());
  }
  if (!options.kvCache.empty())
    if (Error e = parseEnum("KV cache type", options.kvCache, build.cache))
      return e;
  if (Error e = parseEnum("activation format", options.activations, build.activations))
    return e;
  if (options.context < 0)
    return createStringError("the context must be positive, found " + Twine(options.context));
  if (!options.format.empty()) {
    Expected<format::Spec> spec = format::parse(options.format);
    if (!spec)
      return createStringError("--format: " + llvm::toString(spec.takeError()));
    format = std::move(*spec);
  }
  bool oneTarget = options.emit == EmitKind::Llvm || options.emit == EmitKind::Assembly ||
                   options.emit == EmitKind::Kernels;
  std::vector<std::string> names = options.targets;
  if (names.empty() && oneTarget)
    names.push_back("x86-64-v3");
  if (names.empty())
    for (StringRef name : target::portableTargets())
      names.push_back(name.str());
  if (oneTarget && names.size() != 1)
    return createStringError("this output holds code of one target; " + Twine(names.size()) +
                             " were named");
  for (const std::string &name : names) {
    Expected<target::TargetInfo> info = target::lookup(name);
    if (!info)
      return info.takeError();
    bool linked = options.emit >= EmitKind::Library;
    if (info->isAArch64() && linked)
      return createStringError("target 'aarch64': only --emit=obj, asm and llvm; the runtime for "
                               "programs is not built for it");
    targets.push_back(std::move(*info));
  }
  // Best first, without repetitions: knownTargets is in rising order.
  auto rank = [](const target::TargetInfo &t) {
    auto known = target::knownTargets();
    return llvm::find_if(known, [&](auto &k) { return k.name == t.name; }) - known.begin();
  };
  llvm::sort(targets, [&](auto &a, auto &b) { return rank(a) > rank(b); });
  targets.erase(std::unique(targets.begin(), targets.end(),
                            [](auto &a, auto &b) { return a.name == b.name; }),
                targets.end());
  for (const target::TargetInfo &t : targets)
    if (t.isAArch64() != targets[0].isAArch64())
      return createStringError("targets 'aarch64' and x86-64 cannot share one output");
  return options.dryRun ? Error::success() : checkWritable(output, options.force);
}

Error Compilation::buildModel() {
  Expected<import::ModelFile> opened = import::open(options.model);
  if (!opened)
    return opened.takeError();
  model = std::move(*opened);
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
  if (Error e = verifyModel(*owned))
    return createStringError(options.model + ": " + llvm::toString(std::move(e)));
  if (format)
    if (Error e =
            encodeWeights(*owned->module, *format, build.activations, options.dequantize))
      return e;
  if (options.observers)
    if (Error e = runPasses(*owned, "quern-insert-observers"))
      return e;
  if (failed(mlir::verify(*owned->module)))
    return createStringError(options.model + ": " + owned->diagnostics);
  llvm::raw_string_ostream os(bytecode);
  if (failed(writeBytecodeToFile(*owned->module, os)))
    return createStringError("cannot serialize the module: " + owned->diagnostics);
  return Error::success();
}

Error Compilation::writeModule() {
  auto file = OutputFile::create(output, options.force);
  if (!file)
    return file.takeError();
  if (options.emit == EmitKind::Bytecode)
    file->stream() << bytecode;
  else
    owned->module->print(file->stream());
  return file->keep();
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

Expected<std::vector<emit::Bytes>> Compilation::generateCode(emit::CodeKind kind) {
  std::vector<emit::TargetModule> modules;
  for (const target::TargetInfo &t : targets)
    modules.push_back({t,
                       [this, t](llvm::LLVMContext &context)
                           -> Expected<std::unique_ptr<llvm::Module>> {
                         auto kernels = parseModule(bytecode);
                         if (!kernels)
                           return kernels.takeError();
                         if (Error e = lowerToKernels(**kernels, t))
                           return std::move(e);
                         return lowerToLlvm(**kernels, t, context);
                       },
                       {emit::forwardSymbol(t.name)}});
  return emit::compileModules(modules, kind, options.threads);
}

static Error writeFile(StringRef path, ArrayRef<char> bytes, bool force) {
  auto file = OutputFile::create(path, force);
  if (!file)
    return file.takeError();
  file->stream().write(bytes.data(), bytes.size());
  return file->keep();
}

Error Compilation::writeText() {
  auto code = generateCode(options.emit == EmitKind::Llvm ? emit::CodeKind::Llvm
                                                          : emit::CodeKind::Assembly);
  if (!code)
    return code.takeError();
  return writeFile(output, (*code)[0], options.force);
}

Error Compilation::writeProgram() {
  if (Error e = step("code", 0))
    return e;
  auto code = generateCode(emit::CodeKind::Object);
  if (!code)
    return code.takeError();
  if (Error e = step("link", 0))
    return e;

  emit::ProgramTable table;
  for (const target::TargetInfo &t : targets)
    table.targets.push_back({t.name, t.features, emit::forwardSymbol(t.name)});
  for (const PackedWeight &w : plan.weights)
    table.weights.push_back({WeightOp(w.weight).getSymName().str(), w.offset, w.size});
  table.vocabSize = int32_t(config.vocab);
  table.width = int32_t(config.width);
  table.context = int32_t(build.context);
  table.maxTokens = int32_t(facts[0].maxTokens);
  table.maxThreads = maxThreads;
  table.cacheBytes = facts[0].cacheBytes;
  for (const TargetFacts &f : facts)
    table.scratchBytes = std::max(table.scratchBytes, f.scratchBytes);
  emit::TargetModule program{
      targets.back(), // the least demanding one: it runs wherever any does
      [&](llvm::LLVMContext &context) -> Expected<std::unique_ptr<llvm::Module>> {
        return emit::buildProgramTable(context, table, options.emit == EmitKind::Executable);
      },
      {"quern_program_v1", "main"}};
  // `main` runs before the CPU is checked, so it may use only the baseline.
  if (program.target.isX86()) {
    program.target.cpu = "x86-64";
    program.target.features = "";
  }
  auto tableCode = emit::compileModules({program}, emit::CodeKind::Object, 1);
  if (!tableCode)
    return tableCode.takeError();

  if (std::error_code ec = llvm::sys::fs::createUniqueDirectory("quern", temporary))
    return createStringError("cannot create a temporary folder: " + ec.message());
  std::vector<std::string> objects;
  auto addObject = [&](const llvm::Twine &name, const emit::Bytes &bytes) {
    objects.push_back((temporary + "/" + name + ".o").str());
    return writeFile(objects.back(), bytes, true);
  };
  for (auto [target, bytes] : llvm::zip(targets, *code))
    if (Error e = addObject(target.name, bytes))
      return e;
  if (Error e = addObject("program", (*tableCode)[0]))
    return e;
  std::string image = (temporary + "/image").str();
  if (options.emit == EmitKind::Shared) // the file's name becomes the library's own
    image = (temporary + "/" + llvm::sys::path::filename(output)).str();
  Error linked = options.emit == EmitKind::Library ? emit::archive(objects, image)
                 : emit::link(options.emit == EmitKind::Executable ? emit::ImageKind::Executable
                              : options.emit == EmitKind::Shared   ? emit::ImageKind::Shared
                                                                   : emit::ImageKind::Relocatable,
                              objects, image);
  if (linked)
    return linked;
  if (Error e = writePayload(image))
    return e;
  return options.emit == EmitKind::Library || options.emit == EmitKind::Shared ? writeHeader()
                                                                               : Error::success();
}

/// Weights, tokenizer and metadata, all of them or without the weights.
Error Compilation::writeSections(emit::PayloadWriter &writer) {
  if (Error e = step("weights", 0))
    return e;
  WeightData data(*owned->module);
  writer.begin(runtime::WeightSection);
  return packWeights(plan, data, writer, options.threads, [&](double fraction) {
    return !options.progress || options.progress("weights", fraction);
  });
}

Error Compilation::writePayload(StringRef image) {
  auto tokenizer = import::readTokenizer(model);
  if (!tokenizer)
    return tokenizer.takeError();
  std::string error;
  std::vector<uint8_t> blob = tokenizer->serialize(error);
  if (!error.empty())
    return createStringError(options.model + ": tokenizer: " + error);
  Expected<std::string> text = metadata();
  if (!text)
    return text.takeError();
  auto writeRest = [&](emit::PayloadWriter &writer) {
    writer.begin(runtime::TokenizerSection);
    writer.write(blob);
    writer.begin(runtime::ChatSection);
    writer.write(import::readChatFormat(model).serialize());
    writer.begin(runtime::MetadataSection);
    writer.write(*text);
    return writer.finish();
  };

  // An archive or object cannot carry a payload: everything lies beside.
  bool program = options.emit == EmitKind::Executable || options.emit == EmitKind::Shared;
  std::optional<uint64_t> hash;
  if (besides()) {
    auto file = OutputFile::create(output + ".weights", options.force);
    if (!file)
      return file.takeError();
    emit::PayloadWriter writer(*file);
    if (Error e = writeSections(writer))
      return e;
    hash = writer.weightsHash();
    if (Error e = program ? writer.finish() : writeRest(writer))
      return e;
  }
  auto file = OutputFile::create(output, options.force,
                                       options.emit == EmitKind::Executable);
  if (!file)
    return file.takeError();
  emit::PayloadWriter writer(*file);
  if (Error e = writer.copyImage(image))
    return e;
  if (!program)
    return file->keep();
  if (hash)
    writer.setWeightsBeside(*hash);
  else if (Error e = writeSections(writer))
    return e;
  return writeRest(writer);
}

Error Compilation::writeHeader() {
  Expected<std::string> dir = emit::linkDirectory();
  if (!dir)
    return dir.takeError();
  auto header = llvm::MemoryBuffer::getFile(*dir + "/quern.h");
  if (!header)
    return createStringError("cannot read '" + *dir + "/quern.h'");
  llvm::SmallString<128> path(llvm::sys::path::parent_path(output));
  llvm::sys::path::append(path, "quern.h");
  auto present = llvm::MemoryBuffer::getFile(path);
  if (present && (*present)->getBuffer() == (*header)->getBuffer())
    return Error::success();
  StringRef text = (*header)->getBuffer();
  return writeFile(path, ArrayRef<char>(text.begin(), text.end()), options.force);
}

json::Array Compilation::tensorTable() {
  json::Array tensors;
  for (auto [w, readers] : llvm::zip(plan.weights, facts[0].readers)) {
    json::Array shape;
    uint64_t elements = 1;
    RankedTensorType type = WeightOp(w.weight).getTensorType();
    for (int64_t d : type.getShape()) {
      shape.push_back(d);
      elements *= uint64_t(d);
    }
    StringRef known = format::knownName(w.spec);
    json::Array kernels;
    for (const std::string &name : readers)
      kernels.push_back(name);
    std::string kernel = llvm::join(readers, " ");
    tensors.push_back(json::Object{
        {"name", WeightOp(w.weight).getSymName()},
        {"shape", std::move(shape)},
        {"format", known.empty() ? format::print(w.spec) : known.str()},
        {"bits", double(w.size) * 8 / double(std::max<uint64_t>(elements, 1))},
        {"bytes", int64_t(w.size)},
        {"layout", w.panels ? "panel" : "rows"},
        {"activations", ""},
        {"kernel", kernel}});
  }
  // How activations enter the products with each weight: what `fast` is, too.
  auto activationName = [&](ActivationFormat format, const PackedWeight &weight) {
    RankedTensorType type = WeightOp(weight.weight).getTensorType();
    int64_t rank = type.getRank();
    if (format == ActivationFormat::Fast && rank >= 2) {
      auto layout = format::PackedLayout::get(weight.spec, type.getDimSize(rank - 2),
                                              type.getDimSize(rank - 1));
      if (layout)
        return conversion::fastActivation(targets[0], *layout) == conversion::Activation::Q8
                   ? StringRef("q8")
                   : StringRef("bf16");
      llvm::consumeError(layout.takeError());
    }
    return stringifyActivationFormat(format);
  };
  owned->module->walk([&](WeightedOpInterface op) {
    auto use = op.getWeightOperand().get().getDefiningOp<UseOp>();
    if (!use)
      return;
    SymbolTable symbols(*owned->module);
    auto weight = symbols.lookup<WeightOp>(use.getWeight());
    StringRef name = weight.isView() ? *weight.getSource() : weight.getSymName();
    for (auto [w, row] : llvm::zip(plan.weights, tensors))
      if (WeightOp(w.weight).getSymName() == name)
        (*row.getAsObject())["activations"] = activationName(op.getActivations(), w);
  });
  return tensors;
}

Expected<std::string> Compilation::metadata() {
  uint64_t decodeBytes = plan.bytes;
  // A gather reads one row; only products read all of a matrix.
  ::llvm::StringSet<> multiplied;
  owned->module->walk([&](WeightedOpInterface op) {
    if (auto use = op.getWeightOperand().get().getDefiningOp<UseOp>())
      multiplied.insert(use.getWeight());
  });
  owned->module->walk([&](EmbeddingOp op) {
    auto use = op.getTable().getDefiningOp<UseOp>();
    if (!use || multiplied.contains(use.getWeight()))
      return;
    for (const PackedWeight &w : plan.weights)
      if (WeightOp(w.weight).getSymName() == use.getWeight())
        decodeBytes -= w.size;
  });
  json::Object object{{"name", config.name},
                      {"architecture", config.architecture},
                      {"context", build.context},
                      {"kv_cache", stringifyCacheElement(build.cache)},
                      {"activations", options.activations},
                      {"decode_bytes", int64_t(decodeBytes)},
                      {"tensors", tensorTable()}};
  json::Array observers;
  owned->module->walk([&](ObserveOp op) {
    json::Array weights;
    for (Attribute name : op.getWeights())
      weights.push_back(cast<StringAttr>(name).getValue());
    observers.push_back(json::Object{
        {"columns", cast<RankedTensorType>(op.getX().getType()).getShape().back()},
        {"weights", std::move(weights)}});
  });
  if (options.observers)
    object["observers"] = std::move(observers);
  std::string text;
  llvm::raw_string_ostream(text) << json::Value(std::move(object));
  return text;
}

/// Of outputs that hold no weights.
json::Object Compilation::shortReport() {
  json::Object out{{"model", options.model},
                   // Not in the program itself, whose bytes depend on the model alone.
                   {"name", config.name.empty() ? fileName(options.model) : config.name},
                   {"architecture", config.architecture},
                   {"output", output},
                   {"context", build.context},
                   {"kv_cache", stringifyCacheElement(build.cache)},
                   {"activations", options.activations},
                   {"dry_run", options.dryRun}};
  uint64_t size = 0;
  if (!options.dryRun && !llvm::sys::fs::file_size(output, size))
    out["bytes"] = int64_t(size);
  return out;
}

json::Object Compilation::report() {
  json::Object formats;
  struct Sum {
    uint64_t tensors = 0, elements = 0, bytes = 0;
  };
  std::map<std::string, Sum> sums;
  for (const PackedWeight &w : plan.weights) {
    StringRef known = format::knownName(w.spec);
    Sum &sum = sums[known.empty() ? format::print(w.spec) : known.str()];
    ++sum.tensors;
    sum.elements += uint64_t(w.shape.matrices * w.shape.rows * w.shape.cols);
    sum.bytes += w.size;
  }
  for (auto &[name, sum] : sums)
    formats[name] = json::Object{{"tensors", int64_t(sum.tensors)},
                                 {"parameters", int64_t(sum.elements)},
                                 {"bytes", int64_t(sum.bytes)}};
  json::Array targetNames;
  uint64_t scratch = 0;
  for (auto [t, f] : llvm::zip(targets, facts)) {
    targetNames.push_back(json::Object{{"name", t.name}, {"kernels", int64_t(f.kernels)}});
    scratch = std::max(scratch, f.scratchBytes);
  }
  json::Object memory{{"weights", int64_t(plan.bytes)},
                      {"cache_per_sequence", int64_t(facts[0].cacheBytes)},
                      {"scratch", int64_t(scratch)}};
  json::Object out = shortReport();
  out["max_tokens"] = facts[0].maxTokens;
  out["targets"] = std::move(targetNames);
  out["formats"] = std::move(formats);
  out["memory"] = std::move(memory);
  if (options.dryRun)
    out["tensors"] = tensorTable();
  return out;
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
