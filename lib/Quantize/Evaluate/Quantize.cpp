//===- Quantize.cpp - From a float model and a budget to a file -----------===//
//
// The straight line: each step in a function of its own, nothing written before the last.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Quantize.h"
#include "Quantization.h"
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
  int budgets = (options.size > 0) + (options.bits > 0) + !options.format.empty();
  if (budgets != 1)
    return createStringError("expected one of --size, --bits and --format");
  bool measured = options.provider == Provider::Measured && options.format.empty();
  if (options.text.empty() && options.note && (options.statistics.empty() || measured))
    options.note("no --text given: the built-in text is used, English prose in the public domain");
  Expected<Engine> found = parseEngine(options.engine);
  if (!found)
    return found.takeError();
  engine = *found;
  if (options.dryRun)
    return Error::success();
  if (options.output.empty())
    return createStringError("no output given (-o)");
  return checkWritable(options.output, options.force);
}

Error Quantization::readStatistics() {
  if (!options.statistics.empty()) {
    Expected<Statistics> read = Statistics::read(options.statistics);
    if (!read)
      return read.takeError();
    statistics = std::move(*read);
  } else {
    CalibrateOptions calibration;
    calibration.model = options.model;
    calibration.text = options.text;
    calibration.threads = options.threads;
    calibration.progress = [&](double fraction) {
      return !options.progress || options.progress("calibrate", fraction);
    };
    Expected<Statistics> made = calibrate(calibration);
    if (!made)
      return made.takeError();
    statistics = std::move(*made);
  }
  bool any = llvm::any_of(candidates->tensors,
                          [&](const Tensor &t) { return statistics.find(t.name) != nullptr; });
  if (!any)
    return createStringError("the statistics are of another model: they know none of its tensors");
  for (const Tensor &tensor : candidates->tensors)
    if (!statistics.find(tensor.name) && options.note)
      options.note("no statistics for '" + tensor.name + "': its columns count the same");
  return Error::success();
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
      std::min(options.measureTokens, maxBytes / (sizeof(float) * uint64_t(program->vocabulary())));
  Expected<Windows> read = readWindows(*program, options.text, 0, tokens);
  if (!read)
    return read.takeError();
  windows = std::move(*read);
  Key key("measured 1");
  key.addAll(llvm::ArrayRef(windows.prefix)).addAll(llvm::ArrayRef(windows.tokens));
  key.add(double(windows.window));
  for (const import::TensorInfo &tensor : model.tensors) {
    Expected<import::TensorBytes> bytes = import::mapTensor(model, tensor);
    if (!bytes)
      return bytes.takeError();
    key.add(bytes->bytes());
  }
  textKey = key.digits().substr(0, 16);
  streams.emplace(*program, windows.prefix.size() + size_t(windows.window) - 1, store->folder());
  Expected<Baseline> predictions = Baseline::create(*streams, windows);
  if (!predictions)
    return predictions.takeError();
  baseline = std::move(*predictions);
  return Error::success();
}

Expected<json::Object> Quantization::run() {
  if (Error e = checkOptions())
    return std::move(e);
  Expected<import::ModelFile> opened = import::open(options.model);
  if (!opened)
    return opened.takeError();
  model = std::move(*opened);
  Expected<Candidates> planned = Candidates::plan(model, options);
  if (!planned)
    return planned.takeError();
  candidates.emplace(std::move(*planned));
  if (Error e = findBudget())
    return std::move(e);
  Expected<Store> folder = Store::create(options.work);
  if (!folder)
    return folder.takeError();
  store.emplace(std::move(*folder));
  if (Error e = readStatistics())
    return std::move(e);
  if (options.provider == Provider::Measured && options.format.empty())
    if (Error e = openProgram())
      return std::move(e);
  if (Error e = candidates->solve(statistics, options, *store))
    return std::move(e);
  if (options.size && !isGguf())
    if (Error e = probeExecutable())
      return std::move(e);
  if (Error e = allocate())
    return std::move(e);
  if (!options.dryRun)
    if (Error e = write())
      return std::move(e);
  return report();
}

Expected<json::Object> quern::quantize::quantize(const QuantizeOptions &options) {
  auto run = [](const QuantizeOptions &final) { return Quantization(final).run(); };
  return options.transforms.empty() ? run(options) : quantizeTransformed(options, run);
}
