//===- Quantize.cpp - From a float model and a budget to a file -----------===//
//
// The straight line: each step in a function of its own, nothing written before the last.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Quantize.h"
#include "Quantization.h"
#include "quern/Dialect/Quern/IR/QuernOps.h"
#include "quern/Pipeline/InspectModule.h"
#include "quern/Quantize/Recipe.h"
#include "quern/Quantize/Transform.h"
#include "quern/Support/OutputFile.h"

using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
namespace json = llvm::json;

Error Quantization::checkOptions() {
  std::string given;
  auto count = [&](bool is, StringRef name) {
    if (is)
      given += (given.empty() ? "" : ", ") + name.str();
    return unsigned(is);
  };
  unsigned stored = count(options.size > 0, "--size") + count(options.bits > 0, "--bits");
  unsigned others = count(options.maxKl > 0, "--max-kl") +
                    count(!options.format.empty(), "--format") +
                    count(!options.allocation.empty(), "--allocation");
  unsigned works = count(options.tokensPerSecond > 0, "--tokens-per-second") +
                   count(options.bitOperations > 0, "--bit-operations");
  if (stored + others + works == 0)
    return createStringError("no budget given: expected one of --size, --bits, --max-kl, "
                             "--tokens-per-second, --bit-operations, --format and --allocation");
  bool both = stored == 1 && works == 1 && others == 0;
  if (stored + others + works > 1 && !both)
    return createStringError("expected one budget, found " + given);
  if (both && options.engine != "ilp" && options.engine != "greedy")
    return createStringError("two budgets at once (" + given + ") need --engine ilp or greedy");
  if (Error e = parseProvider(options.provider).moveInto(provider))
    return e;
  if (options.texts.empty() && options.note && (options.statistics.empty() || measures()))
    options.note("no --text given: the built-in text is used, English prose in the public domain");
  Expected<Engine> found = parseEngine(options.engine);
  if (!found)
    return found.takeError();
  engine = *found;
  if (Error e = openCost())
    return e;
  if (kind() == OutputKind::Gguf && quern::isModule(options.model))
    return createStringError(options.model +
                             ": no GGUF file can say all that IR does; an executable or IR "
                             "(.mlirbc) can: -o PROGRAM");
  if (kind() == OutputKind::Gguf && options.activations != "fast")
    return createStringError("--activations is of executables and IR: who runs a GGUF file "
                             "chooses");
  if (kind() == OutputKind::Gguf && (!options.kvCache.empty() || options.context))
    return createStringError("--kv-cache and --context are of executables and IR: who runs a GGUF "
                             "file chooses");
  if (!options.kvCache.empty() && !symbolizeCacheElement(options.kvCache))
    return createStringError("unknown KV cache type '" + options.kvCache +
                             "'; known: f32, f16, q8_0, q4");
  if (!symbolizeActivationFormat(options.activations))
    return createStringError("unknown activations '" + options.activations +
                             "'; known: fast, f32, bf16, q8, int8, q4, int4");
  if (options.dryRun)
    return Error::success();
  if (options.output.empty())
    return createStringError("no output given (-o)");
  return checkWritable(options.output, options.force);
}

CalibrateOptions Quantization::calibrateOptions() const {
  CalibrateOptions out;
  out.model = options.model;
  out.texts = options.texts;
  out.tokens = tokensToCalibrate();
  out.threads = options.threads;
  return out;
}

Error Quantization::readStatistics() {
  if (!options.statistics.empty()) {
    Expected<Statistics> read =
        Statistics::readAny(options.statistics, [&](const std::string &text) {
          if (options.note)
            options.note(text);
        });
    if (!read)
      return read.takeError();
    statistics = std::move(*read);
  } else {
    CalibrateOptions calibration = calibrateOptions();
    calibration.work = store->folder();
    calibration.note = options.note;
    calibration.progress = [&](double fraction) {
      return !options.progress || options.progress("calibrate", fraction);
    };
    Expected<Statistics> made = calibrate(calibration, "", false);
    if (!made)
      return made.takeError();
    statistics = std::move(*made);
  }
  for (const Tensor &t : candidates->tensors)
    if (t.experts > 1)
      statistics.splitExperts(t.name, t.experts, t.columns);
  auto known = [&](const Tensor &t) { return statistics.find(t.name, t.experts > 1 ? 0 : -1); };
  for (const Tensor &t : candidates->tensors)
    if (const InputStatistics *input = known(t);
        input && input->columns != t.columns && !statistics.squaresOnly)
      return createStringError("the statistics are of another model: '" + t.name + "' has " +
                               llvm::Twine(t.columns) + " columns, they have " +
                               llvm::Twine(input->columns));
  bool any = llvm::any_of(candidates->tensors, known);
  if (!any)
    return createStringError("the statistics are of another model: they know none of its tensors");
  for (const Tensor &tensor : candidates->tensors)
    if (!known(tensor) && options.note)
      options.note("no statistics for '" + tensor.name + "': its columns count the same");
  return Error::success();
}

double Quantization::weightsToQuantize() const {
  double weights = 0;
  for (const Tensor &tensor : candidates->tensors)
    weights += double(tensor.rows) * double(tensor.columns);
  return std::max(1.0, weights);
}

/// How many tokens the statistics are of. Each passes each weight once; a matrix of n columns wants
/// some multiple of n for a Hessian of full rank.
uint64_t Quantization::tokensToCalibrate() const {
  if (options.calibrationTokens)
    return options.calibrationTokens;
  constexpr double products = 1e13; // some minutes
  return uint64_t(std::max(products / weightsToQuantize(), 16384.0));
}

/// How many tokens to measure with. Measuring a matrix runs about half of the network, so that all
/// matrices take weights times matrices times tokens.
uint64_t Quantization::tokensToMeasure() const {
  if (options.measureTokens)
    return options.measureTokens;
  constexpr double products = 1.5e13; // some minutes
  double tokens = products / (weightsToQuantize() * double(candidates->tensors.size()));
  return uint64_t(std::clamp(tokens, 512.0, 8192.0)) * std::max(1u, options.measureEffort);
}

Error Quantization::openProgram() {
  if (Error e = step("compile", 0))
    return e;
  ProgramOptions programOptions;
  programOptions.threads = options.threads;
  programOptions.parts = true;
  auto made = Program::create(options.model, programOptions);
  if (!made)
    return made.takeError();
  program = std::move(*made);
  // Rows of predictions are kept in memory.
  constexpr uint64_t maxBytes = uint64_t(512) << 20;
  uint64_t tokens =
      std::min(tokensToMeasure(), maxBytes / (sizeof(float) * uint64_t(program->vocabulary())));
  Expected<Windows> read = readWindows(*program, options.texts, 0, tokens, options.model);
  if (!read)
    return read.takeError();
  // As many more as are held back.
  size_t count = read->count(), more = std::max<size_t>(1, count / 4);
  read = readWindows(*program, options.texts, read->window,
                     uint64_t(count + more) * uint64_t(read->window), options.model);
  if (!read)
    return read.takeError();
  Expected<std::pair<Windows, Windows>> parts = divideWindows(*read);
  if (!parts)
    return parts.takeError();
  std::tie(windows, heldBackWindows) = std::move(*parts);
  Key key("measured 2");
  key.addAll(llvm::ArrayRef(windows.prefix)).addAll(llvm::ArrayRef(windows.tokens));
  key.add(double(windows.window));
  if (Error e = source.addTo(key, /*names=*/false))
    return e;
  textKey = key.digits().substr(0, 16);
  streams.emplace(*program, windows.prefix.size() + size_t(windows.window) - 1, store->folder());
  Expected<Baseline> predictions = Baseline::create(*streams, windows);
  if (!predictions)
    return predictions.takeError();
  baseline = std::move(*predictions);
  if (heldBackWindows.count()) {
    Expected<Baseline> other = Baseline::create(*program, heldBackWindows);
    if (!other)
      return other.takeError();
    heldBack = std::move(*other);
  }
  return Error::success();
}

Error Quantization::prepare(bool measures) {
  if (Error e = ModelSource::open(options.model).moveInto(source))
    return e;
  Expected<Candidates> planned = Candidates::plan(source, options, kind() == OutputKind::Gguf);
  if (!planned)
    return planned.takeError();
  candidates.emplace(std::move(*planned));
  if (Error e = findBudget())
    return e;
  Expected<Store> folder = Store::create(options.work);
  if (!folder)
    return folder.takeError();
  store.emplace(std::move(*folder));
  store->trim(options.workLimit);
  if (Error e = readStatistics())
    return e;
  if (measures)
    if (Error e = openProgram())
      return e;
  return candidates->solve(statistics, options, *store, deadline);
}

Expected<json::Object> Quantization::run() {
  if (options.timeLimit > 0)
    deadline.end = Deadline::Clock::now() + std::chrono::duration_cast<Deadline::Clock::duration>(
                                                std::chrono::duration<double>(options.timeLimit));
  if (Error e = checkOptions())
    return std::move(e);
  if (Error e = prepare(measures()))
    return std::move(e);
  if (Error e = allocate())
    return std::move(e);
  if (!options.dryRun)
    if (Error e = write())
      return std::move(e);
  store->trim(options.workLimit);
  return report();
}

Expected<json::Object> quern::quantize::quantize(const QuantizeOptions &options) {
  auto run = [](const QuantizeOptions &final) { return Quantization(final).run(); };
  if (!options.transforms.empty()) { // else run() begins with it
    QuantizeOptions quiet = options;
    quiet.note = nullptr;
    if (Error e = Quantization(quiet).checkOptions())
      return std::move(e);
  }
  json::Object inputs;
  if (options.recipe || !options.expectedInputs.empty()) {
    Expected<json::Object> found = hashInputs(options);
    if (!found)
      return found.takeError();
    if (Error e = checkInputs(options.expectedInputs, *found))
      return std::move(e);
    inputs = std::move(*found);
  }
  Expected<json::Object> report =
      options.transforms.empty() ? run(options) : quantizeTransformed(options, run);
  if (report && options.recipe) {
    json::Object recipe = recipeOf(options);
    recipe["inputs"] = std::move(inputs);
    (*report)["recipe"] = std::move(recipe);
  }
  return report;
}
