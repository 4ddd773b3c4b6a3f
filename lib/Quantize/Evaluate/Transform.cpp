//===- Transform.cpp - A model that computes the same and rounds better ---===//
//
// See Transform.h. The graph says which weights there are and who reads them; the passes rewrite
// some as files of f32, which take the place of the model's tensors.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Transform.h"
#include "Folder.h"
#include "mlir/Pass/PassManager.h"
#include "quern/Architectures/Architectures.h"
#include "quern/Export/Convert.h"
#include "quern/Import/ChatTemplate.h"
#include "quern/Import/Tokenizer.h"
#include "quern/Pipeline/Compile.h"
#include "quern/Pipeline/ModuleFile.h"
#include "quern/Pipeline/Register.h"
#include "quern/Quantize/Calibrate.h"
#include "quern/Quantize/Migrate/Passes.h"
#include "quern/Quantize/Passes/Passes.h"
#include "quern/Quantize/Quantize.h"
#include "quern/Support/OutputFile.h"
#include "llvm/ADT/StringExtras.h"

using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
namespace json = llvm::json;

namespace {
struct Transform {
  StringRef name, summary;
  bool statistics; ///< needs them
  std::unique_ptr<mlir::Pass> (*create)(const std::string &statistics, const std::string &data);
  /// What programs and IR can say, but no model file; empty: any can.
  StringRef beyondFiles = "";
  bool changesInputs = true; ///< of products, so that they must be seen again
};

template <typename Options, std::unique_ptr<mlir::Pass> (*create)(Options)>
std::unique_ptr<mlir::Pass> withStatistics(const std::string &statistics, const std::string &data) {
  Options options;
  options.statistics = statistics;
  options.data = data;
  return create(std::move(options));
}

template <typename Options, std::unique_ptr<mlir::Pass> (*create)(Options)>
std::unique_ptr<mlir::Pass> withData(const std::string &, const std::string &data) {
  Options options;
  options.data = data;
  return create(std::move(options));
}

std::unique_ptr<mlir::Pass> withColumns(const std::string &statistics, const std::string &) {
  SplitColumnsPassOptions options;
  options.statistics = statistics;
  return createSplitColumnsPass(std::move(options));
}

template <std::unique_ptr<mlir::Pass> (*create)()>
std::unique_ptr<mlir::Pass> alone(const std::string &, const std::string &) {
  return create();
}

/// A transform is one line here; see docs/Transforms.md.
const Transform transforms[] = {
    {"fold", "scales of activation channels into weights (Scale Folding)", true,
     withStatistics<FoldScalesPassOptions, createFoldScalesPass>},
    {"smooth", "outliers shared between activations and weights (SmoothQuant)", true,
     withStatistics<SmoothActivationsPassOptions, createSmoothActivationsPass>},
    {"search", "scales that weights round best with (AWQ)", true,
     withStatistics<SearchScalesPassOptions, createSearchScalesPass>},
    {"equalize", "ranges of a channel's row and column made equal", true,
     withStatistics<EqualizeRangesPassOptions, createEqualizeRangesPass>},
    {"permute", "channels of like magnitude next to each other", false,
     withData<PermuteChannelsPassOptions, createPermuteChannelsPass>},
    {"clip", "weights to the range that rounds best (AWQ); changes what the model computes", true,
     withStatistics<ClipWeightsPassOptions, createClipWeightsPass>},
    {"rotate", "residual stream, rotated in the weights; not where the table is tied", false,
     withData<RotateStreamPassOptions, createRotateStreamPass>},
    {"rotate-inputs", "what enters down projections, while the program runs", false,
     withData<RotateInputsPassOptions, createRotateInputsPass>, "that inputs are rotated online"},
    {"rotate-cache", "queries, keys and values of heads, while the program runs", false,
     alone<createRotateCachePass>, "that the cache is rotated online", false},
    {"split", "columns of outlier channels in a format of their own (LLM.int8())", true,
     withColumns, "which columns of a matrix have another format", false},
    {"keep", "outliers among activations from rounding, token by token", false,
     alone<createKeepOutliersPass>, "that outliers are not rounded", false},
};
/// Not a pass over float weights: it is done when they are rounded.
constexpr StringRef biases = "biases", biasesSummary = "the mean error of rounding, taken back";

class Transformation {
public:
  explicit Transformation(const TransformOptions &options) : options(options) {}
  Expected<json::Object> run();

private:
  Error open();
  Expected<std::string> statisticsOf(bool changed);
  Error runPass(const Transform &transform, StringRef arguments, const std::string &statistics);
  Error writeIr(StringRef path, bool force);
  Error replaceTensors();
  Error step(StringRef phase, double fraction) {
    if (options.progress && !options.progress(phase, fraction))
      return createStringError("cancelled");
    return Error::success();
  }

  const TransformOptions &options;
  Folder folder;
  bool isGguf = false; ///< the output, else IR
  import::ModelFile source, model;
  std::unique_ptr<mlir::MLIRContext> context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  std::string diagnostics;
  json::Array passes, changed;
  std::string text; ///< that statistics are of
};
} // namespace

std::vector<std::string> quern::quantize::splitTransforms(StringRef text) {
  std::vector<std::string> out;
  std::string current;
  int depth = 0;
  for (char c : text) {
    depth += (c == '{') - (c == '}');
    if (c == ',' && depth <= 0) {
      out.push_back(std::move(current));
      current.clear();
    } else {
      current += c;
    }
  }
  out.push_back(std::move(current));
  return out;
}

std::string quern::quantize::transformNames() {
  std::string out;
  auto add = [&](StringRef name, StringRef summary, bool beyond) {
    out += "  " + name.str() + std::string(14 - name.size(), ' ') + summary.str() +
           (beyond ? " *\n" : "\n");
  };
  for (const Transform &transform : transforms)
    add(transform.name, transform.summary, !transform.beyondFiles.empty());
  add(biases, biasesSummary, true);
  return out + "  * in programs and IR: no GGUF file can say it\n";
}

/// The items of `key=a,b` among a pass's options.
static llvm::SmallVector<StringRef> optionOf(StringRef arguments, StringRef key) {
  llvm::SmallVector<StringRef> items;
  for (StringRef option : llvm::split(arguments, ' '))
    if (option.consume_front(key) && option.consume_front("="))
      option.split(items, ',');
  return items;
}

/// Looks the name up; refuses what the output cannot say.
static Expected<std::pair<const Transform *, StringRef>> parseTransform(StringRef text,
                                                                        bool isGguf) {
  auto [name, arguments] = text.trim().split('{');
  if (!arguments.empty() && !arguments.consume_back("}"))
    return createStringError("transform '" + text + "': expected NAME or NAME{OPTION=VALUE ...}");
  std::string known;
  auto refuse = [&](StringRef what) {
    return createStringError("transform '" + name + "': no GGUF file can say " + what +
                             "; an executable or IR (.mlirbc) can: quern quantize -o PROGRAM");
  };
  for (const Transform &transform : transforms) {
    known += (known.empty() ? "" : ", ") + transform.name.str();
    if (transform.name != name)
      continue;
    if (isGguf && !transform.beyondFiles.empty())
      return refuse(transform.beyondFiles);
    if (isGguf && llvm::is_contained(optionOf(arguments, "sites"), "op"))
      return refuse("that channels are scaled by an op of their own (sites=op)");
    return std::pair(&transform, arguments);
  }
  if (name == biases)
    return isGguf ? refuse("a bias that its architecture does not have")
                  : createStringError("transform 'biases': the error of rounding is known once "
                                      "weights are rounded: `quern quantize` takes it back");
  return createStringError("unknown transform '" + name + "'; known: " + known + ", " + biases);
}

Error Transformation::open() {
  Expected<import::ModelFile> opened = import::open(options.model);
  if (!opened)
    return opened.takeError();
  source = std::move(*opened);
  model = source;
  if (!options.allowRequantize)
    for (const import::TensorInfo &info : model.tensors)
      if (info.shape.size() > 1 && info.decodable && !info.spec.isPlain())
        return createStringError(options.model + ": tensor '" + info.name + "' is " +
                                 info.fileType +
                                 " already; give --allow-requantize to go on from there");
  mlir::DialectRegistry registry;
  registerDialects(registry);
  context = std::make_unique<mlir::MLIRContext>(registry, mlir::MLIRContext::Threading::DISABLED);
  context->getDiagEngine().registerHandler([this](mlir::Diagnostic &diagnostic) {
    if (diagnostic.getSeverity() == mlir::DiagnosticSeverity::Error)
      diagnostics += (diagnostics.empty() ? "" : "\n") + diagnostic.str();
    else if (options.note)
      options.note(diagnostic.str());
    return mlir::success();
  });
  Expected<import::ModelConfig> config = import::readConfig(model);
  if (!config)
    return config.takeError();
  architectures::BuildOptions build;
  build.activations = ActivationFormat::F32;
  build.context = std::min(config->context, defaultContext);
  auto built = architectures::buildModel(*context, model, *config, build);
  if (!built)
    return built.takeError();
  module = std::move(*built);
  return Error::success();
}

/// The statistics of the model as it is now; `changed`: other things enter its products than before.
Expected<std::string> Transformation::statisticsOf(bool changed) {
  if (!changed && !options.statistics.empty()) {
    Expected<Statistics> known = Statistics::read(options.statistics);
    if (!known)
      return known.takeError();
    text = known->text;
    return options.statistics;
  }
  if (options.texts.empty())
    return createStringError(changed
                                 ? "transforms that follow one another need statistics of their "
                                   "own: give a text (--text)"
                                 : "expected --statistics, a file of `quern calibrate`, or --text");
  CalibrateOptions calibration;
  calibration.model = options.model;
  calibration.texts = options.texts;
  calibration.threads = options.threads;
  calibration.progress = [&](double fraction) {
    return !options.progress || options.progress("calibrate", fraction);
  };
  if (changed) {
    calibration.model = folder.file("step.mlirbc");
    if (Error e = writeIr(calibration.model, /*force=*/true))
      return std::move(e);
  }
  std::string path = folder.file("statistics.qst");
  Expected<Statistics> made = calibrate(calibration, path, /*force=*/true);
  if (!made)
    return made.takeError();
  text = made->text;
  return path;
}

Error Transformation::runPass(const Transform &transform, StringRef arguments,
                              const std::string &statistics) {
  std::unique_ptr<mlir::Pass> pass = transform.create(statistics, folder.path.str().str());
  std::string problem;
  auto complain = [&](const llvm::Twine &message) {
    problem = message.str();
    return mlir::failure();
  };
  // What MLIR prints about options, it prints.
  if (mlir::failed(pass->initializeOptions(arguments, complain)))
    return createStringError("transform '" + transform.name + "{" + arguments +
                             "}': " + (problem.empty() ? "bad options" : problem));
  mlir::PassManager manager(context.get());
  manager.addPass(std::move(pass));
  if (mlir::failed(manager.run(*module)))
    return createStringError("transform '" + transform.name + "': " + diagnostics);
  json::Object entry{{"name", transform.name}};
  if (!arguments.empty())
    entry["options"] = arguments.str();
  for (auto [name, count] : migrate::takeCounts(*module))
    entry[name] = count;
  passes.push_back(std::move(entry));
  return Error::success();
}

/// The module as it is now, with all that a program needs.
Error Transformation::writeIr(StringRef path, bool force) {
  ModuleExtras extras;
  extras.chat = import::readChatFormat(source).serialize();
  Expected<runtime::TokenizerData> tokenizer = import::readTokenizer(source);
  if (!tokenizer)
    return tokenizer.takeError();
  std::string error;
  extras.tokenizer = tokenizer->serialize(error);
  if (!error.empty())
    return createStringError(options.model + ": tokenizer: " + error);
  // The module goes on naming the files that passes wrote.
  mlir::OwningOpRef<mlir::ModuleOp> copy(module->clone());
  if (!options.transforms.empty())
    (*copy)->setAttr(QuernDialect::kPassesAttr,
                     mlir::StringAttr::get(context.get(), llvm::join(options.transforms, ",")));
  return writeModuleFile(*copy, path, !path.ends_with(".mlir"), force, extras);
}

/// Makes `model` the source with the weights that the passes wrote.
Error Transformation::replaceTensors() {
  model = source;
  changed = json::Array();
  mlir::SymbolTable symbols(*module);
  for (auto weight : module->getOps<WeightOp>()) {
    auto file = symbols.lookup<FileOp>((weight.getSymName() + ".f32").str());
    if (!file || weight.isView())
      continue;
    auto info = llvm::find_if(model.tensors, [&](const import::TensorInfo &t) {
      return t.canonical == weight.getSymName();
    });
    if (info == model.tensors.end())
      return createStringError(options.model + ": '" + weight.getSymName() +
                               "' is stored expert by expert, which cannot be written back");
    info->spec = getFormat(weight.getTensorType());
    info->fileType = "F32";
    info->file = unsigned(model.files.size());
    info->offset = 0;
    info->size = file.getSize();
    info->pieces.clear();
    model.files.push_back({file.getPath().str(), file.getSize()});
    changed.push_back(weight.getSymName().str());
  }
  return Error::success();
}

Expected<json::Object> Transformation::run() {
  StringRef output = options.output;
  isGguf = output.ends_with(".gguf");
  if (!isGguf && !output.ends_with(".mlirbc") && !output.ends_with(".mlir"))
    return createStringError("'" + output + "': a transformed model is written as GGUF (.gguf) or "
                             "IR (.mlirbc, .mlir)");
  if (Error e = checkWritable(options.output, options.force))
    return std::move(e);
  if (!isGguf)
    if (Error e = checkWritable(moduleDataPath(output), options.force))
      return std::move(e);
  std::vector<std::pair<const Transform *, StringRef>> wanted;
  for (StringRef text : options.transforms) {
    auto parsed = parseTransform(text, isGguf);
    if (!parsed)
      return parsed.takeError();
    wanted.push_back(*parsed);
  }
  if (Error e = folder.create("quern-transform"))
    return std::move(e);
  if (Error e = open())
    return std::move(e);
  for (auto [transform, arguments] : wanted)
    if (isGguf && transform->name == "rotate" && !source.find("output.weight"))
      return createStringError(
          options.model + ": the table is tied, so that the rotation is undone online, which no "
                          "GGUF file can say; an executable or IR (.mlirbc) can: quern quantize "
                          "-o PROGRAM");
  bool changesInputs = false;
  for (auto [i, pair] : llvm::enumerate(wanted)) {
    std::string statistics;
    if (pair.first->statistics) {
      Expected<std::string> path = statisticsOf(changesInputs);
      if (!path)
        return path.takeError();
      statistics = *path;
    }
    if (Error e = step("transform", double(i) / double(wanted.size())))
      return std::move(e);
    if (Error e = runPass(*pair.first, pair.second, statistics))
      return std::move(e);
    changesInputs |= pair.first->changesInputs;
  }
  auto report = [&] {
    json::Object out{{"model", options.model},
                     {"output", options.output},
                     {"transforms", std::move(passes)},
                     {"tensors", std::move(changed)}};
    if (!text.empty())
      out["text"] = text;
    return out;
  };
  if (!isGguf) {
    for (auto weight : module->getOps<WeightOp>())
      if (mlir::SymbolTable::lookupSymbolIn(*module, (weight.getSymName() + ".f32").str()))
        changed.push_back(weight.getSymName().str());
    if (Error e = writeIr(output, options.force))
      return std::move(e);
    return report();
  }
  if (Error e = replaceTensors())
    return std::move(e);
  exporter::ConvertOptions convert;
  convert.force = options.force;
  if (Error e = exporter::convert(model, options.output, convert))
    return std::move(e);
  return report();
}

Expected<json::Object> quern::quantize::transform(const TransformOptions &options) {
  if (options.transforms.empty())
    return createStringError("no transform given; known:\n" + transformNames());
  return Transformation(options).run();
}

Expected<json::Object> quern::quantize::quantizeTransformed(
    const QuantizeOptions &options,
    llvm::function_ref<Expected<json::Object>(const QuantizeOptions &)> run) {
  bool isGguf = options.output.empty() || StringRef(options.output).ends_with(".gguf");
  TransformOptions first;
  QuantizeOptions second = options;
  bool seenAgain = false;
  for (const std::string &text : options.transforms) {
    if (!isGguf && StringRef(text).trim() == biases) {
      second.correctBiases = true;
      continue;
    }
    auto parsed = parseTransform(text, isGguf);
    if (!parsed)
      return parsed.takeError();
    seenAgain |= parsed->first->changesInputs;
    first.transforms.push_back(text);
  }
  // The solver wants to know what enters products once they are transformed.
  if (seenAgain && options.texts.empty())
    return createStringError("transforms change what enters products, which must be seen again: "
                             "give a text (--text)");
  Folder folder;
  if (Error e = folder.create("quern-transform"))
    return std::move(e);
  first.model = options.model;
  first.output = folder.file(isGguf ? "transformed.gguf" : "transformed.mlirbc");
  first.statistics = options.statistics;
  first.texts = options.texts;
  first.threads = options.threads;
  first.allowRequantize = options.allowRequantize;
  first.progress = options.progress;
  first.note = options.note;
  Expected<json::Object> transformed = Transformation(first).run();
  if (!transformed)
    return transformed.takeError();
  second.model = first.output;
  if (seenAgain)
    second.statistics.clear();
  Expected<json::Object> report = run(second);
  if (!report)
    return report.takeError();
  (*report)["model"] = options.model;
  json::Array &passes = *transformed->getArray("transforms");
  if (second.correctBiases)
    passes.push_back(json::Object{{"name", biases},
                                  {"corrected", report->getInteger("corrected_biases").value_or(0)}});
  report->erase("corrected_biases");
  (*report)["transforms"] = std::move(passes);
  return report;
}
