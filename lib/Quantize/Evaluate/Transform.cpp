//===- Transform.cpp - A model that computes the same and rounds better ---===//
//
// See Transform.h. The graph says which weights there are and who reads them; the passes rewrite
// some as files of f32, which take the place of the model's tensors.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Transform.h"
#include "mlir/Pass/PassManager.h"
#include "quern/Architectures/Architectures.h"
#include "quern/Export/Convert.h"
#include "quern/Pipeline/Register.h"
#include "quern/Quantize/Calibrate.h"
#include "quern/Quantize/Migrate/Passes.h"
#include "quern/Quantize/Quantize.h"
#include "quern/Support/OutputFile.h"
#include "llvm/Support/FileSystem.h"

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
};

/// What programs and IR can have, but no model file.
struct Compiled {
  StringRef name, what, pass;
};
const Compiled compiled[] = {
    {"split", "which columns of a matrix have another format",
     "quern-split-columns{...},quern-quantize-weights{...}"},
    {"keep", "that outliers are not rounded", "quern-keep-outliers"},
    {"biases", "a bias that its architecture does not have",
     "quern-quantize-weights{correct-biases ...}"},
    {"rotate-inputs", "that inputs are rotated online", "quern-rotate-inputs{...}"},
    {"rotate-cache", "that the cache is rotated online", "quern-rotate-cache"},
};

/// A folder that goes when this does.
struct Folder {
  llvm::SmallString<128> path;
  Folder() = default;
  Folder(const Folder &) = delete;
  ~Folder() {
    if (!path.empty())
      llvm::sys::fs::remove_directories(path);
  }
  Error create() {
    if (std::error_code ec = llvm::sys::fs::createUniqueDirectory("quern-transform", path))
      return createStringError("cannot create a temporary folder: " + ec.message());
    return Error::success();
  }
  std::string file(StringRef name) const { return (path + "/" + name).str(); }
};

class Transformation {
public:
  explicit Transformation(const TransformOptions &options) : options(options) {}
  Expected<json::Object> run();

private:
  Error open();
  Expected<std::string> statisticsOf(size_t step);
  Error runPass(const Transform &transform, StringRef arguments, const std::string &statistics);
  Error replaceTensors();
  Error step(StringRef phase, double fraction) {
    if (options.progress && !options.progress(phase, fraction))
      return createStringError("cancelled");
    return Error::success();
  }

  const TransformOptions &options;
  Folder folder;
  import::ModelFile source, model;
  std::unique_ptr<mlir::MLIRContext> context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  std::string diagnostics;
  json::Array passes, changed;
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
  for (const Transform &transform : transforms)
    out += "  " + transform.name.str() + std::string(10 - transform.name.size(), ' ') +
           transform.summary.str() + "\n";
  return out;
}

static Expected<std::pair<const Transform *, StringRef>> parseTransform(StringRef text) {
  auto [name, arguments] = text.trim().split('{');
  if (!arguments.empty() && !arguments.consume_back("}"))
    return createStringError("transform '" + text + "': expected NAME or NAME{OPTION=VALUE ...}");
  std::string known;
  for (const Transform &transform : transforms) {
    if (transform.name == name)
      return std::pair(&transform, arguments);
    known += (known.empty() ? "" : ", ") + transform.name.str();
  }
  for (const Compiled &transform : compiled)
    if (transform.name == name)
      return createStringError("transform '" + name + "': no model file can say " +
                               transform.what + "; compile with --passes '" + transform.pass +
                               "' instead");
  return createStringError("unknown transform '" + name + "'; known: " + known);
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
  auto built = architectures::buildModel(*context, model, *config, build);
  if (!built)
    return built.takeError();
  module = std::move(*built);
  return Error::success();
}

/// The statistics of the model as it is before transform `step`.
Expected<std::string> Transformation::statisticsOf(size_t step) {
  if (step == 0 && !options.statistics.empty())
    return options.statistics;
  if (options.text.empty())
    return createStringError(step
                                 ? "transforms that follow one another need statistics of their "
                                   "own: give a text (--text)"
                                 : "expected --statistics, a file of `quern calibrate`, or --text");
  CalibrateOptions calibration;
  calibration.model = options.model;
  calibration.texts = {TextSource{options.text}};
  calibration.threads = options.threads;
  calibration.progress = [&](double fraction) {
    return !options.progress || options.progress("calibrate", fraction);
  };
  if (step) {
    calibration.model = folder.file("step.gguf");
    if (Error e = replaceTensors())
      return std::move(e);
    exporter::ConvertOptions convert;
    convert.force = true;
    if (Error e = exporter::convert(model, calibration.model, convert))
      return std::move(e);
  }
  std::string path = folder.file("statistics.qst");
  if (Error e = calibrate(calibration, path, /*force=*/true).takeError())
    return std::move(e);
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
  if (!StringRef(options.output).ends_with(".gguf"))
    return createStringError("'" + options.output + "': a transformed model is written as GGUF");
  if (Error e = checkWritable(options.output, options.force))
    return std::move(e);
  std::vector<std::pair<const Transform *, StringRef>> wanted;
  for (StringRef text : options.transforms) {
    auto parsed = parseTransform(text);
    if (!parsed)
      return parsed.takeError();
    wanted.push_back(*parsed);
  }
  if (wanted.empty())
    return createStringError("no transform given; known:\n" + transformNames());
  if (Error e = folder.create())
    return std::move(e);
  if (Error e = open())
    return std::move(e);
  for (auto [i, pair] : llvm::enumerate(wanted)) {
    std::string statistics;
    if (pair.first->statistics) {
      Expected<std::string> path = statisticsOf(i);
      if (!path)
        return path.takeError();
      statistics = *path;
    }
    if (Error e = step("transform", double(i) / double(wanted.size())))
      return std::move(e);
    if (Error e = runPass(*pair.first, pair.second, statistics))
      return std::move(e);
  }
  mlir::Operation *online = nullptr;
  module->walk([&](ScaleChannelsOp op) { online = op; });
  if (online)
    return createStringError(options.model + ": no model file can say that channels are scaled by " +
                             migrate::describe(online) +
                             " (sites=op); compile with --passes instead");
  module->walk([&](HadamardOp op) { online = op; });
  if (online)
    return createStringError(options.model +
                             ": the table is tied, so that the rotation is undone online (" +
                             migrate::describe(online) +
                             "), which no model file can say; "
                             "compile with --passes quern-rotate-stream{data=FOLDER} instead");
  if (Error e = replaceTensors())
    return std::move(e);
  exporter::ConvertOptions convert;
  convert.force = options.force;
  if (Error e = exporter::convert(model, options.output, convert))
    return std::move(e);
  return json::Object{{"model", options.model},
                      {"output", options.output},
                      {"transforms", std::move(passes)},
                      {"tensors", std::move(changed)}};
}

Expected<json::Object> quern::quantize::transform(const TransformOptions &options) {
  return Transformation(options).run();
}

Expected<json::Object> quern::quantize::quantizeTransformed(
    const QuantizeOptions &options,
    llvm::function_ref<Expected<json::Object>(const QuantizeOptions &)> run) {
  // The solver wants to know what enters products once they are transformed.
  if (options.text.empty())
    return createStringError("transforms change what enters products, which must be seen again: "
                             "give a text (--text)");
  if (!options.dryRun)
    if (Error e = checkWritable(options.output, options.force))
      return std::move(e);
  Folder folder;
  if (Error e = folder.create())
    return std::move(e);
  TransformOptions first;
  first.model = options.model;
  first.output = folder.file("transformed.gguf");
  first.transforms = options.transforms;
  first.statistics = options.statistics;
  first.text = options.text;
  first.threads = options.threads;
  first.allowRequantize = options.allowRequantize;
  first.progress = options.progress;
  first.note = options.note;
  Expected<json::Object> transformed = transform(first);
  if (!transformed)
    return transformed.takeError();
  QuantizeOptions second = options;
  second.model = first.output;
  second.statistics.clear();
  Expected<json::Object> report = run(second);
  if (!report)
    return report.takeError();
  (*report)["model"] = options.model;
  (*report)["transforms"] = std::move(*transformed->get("transforms"));
  return report;
}
