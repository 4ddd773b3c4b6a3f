//===- Quantize.cpp - From a float model and a budget to a file -----------===//
//
// The straight line: each step in a function of its own, nothing written before the last.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Quantize.h"
#include "Candidates.h"
#include "quern/Export/Convert.h"
#include "quern/Pipeline/Compile.h"
#include "quern/Quantize/Allocation.h"
#include "quern/Quantize/Evaluate.h"
#include "quern/Quantize/Transform.h"
#include "quern/Support/OutputFile.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/Path.h"
#include <cmath>

using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
namespace json = llvm::json;

namespace {
class Quantization {
public:
  explicit Quantization(const QuantizeOptions &options) : options(options) {}
  Expected<json::Object> run();

private:
  Error checkOptions();
  Error readStatistics();
  Error openProgram();
  Error findBudget();
  Error allocate();
  Expected<Assignment> search();
  Error measureCandidate(Tensor &tensor, Candidate &candidate);
  Error measureSensitivities();
  Expected<double> measureAssignment(llvm::ArrayRef<uint32_t> choice);
  std::vector<Item> items() const;
  bool isGguf() const {
    return options.output.empty() || StringRef(options.output).ends_with(".gguf");
  }
  Error writeFile(llvm::ArrayRef<uint32_t> choice, StringRef path, bool force, uint64_t &bytes);
  Error probeExecutable();
  Error write();
  json::Object report();
  Error step(StringRef phase, double fraction) {
    if (options.progress && !options.progress(phase, fraction))
      return createStringError("cancelled");
    return Error::success();
  }

  const QuantizeOptions &options;
  import::ModelFile model;
  std::optional<Candidates> candidates;
  Statistics statistics;
  std::unique_ptr<Program> program;
  Windows windows;
  std::optional<Baseline> baseline;
  std::vector<double> sensitivity; ///< by tensor
  uint64_t overhead = 0;           ///< bytes of the file beyond the tensors to be chosen
  uint64_t budget = 0;             ///< bytes for those
  Engine engine = nullptr;
  Assignment assignment;
  std::optional<Assignment> uniformAssignment;
  double kl = -1; ///< of the assignment, on the text it was chosen with
  uint64_t written = 0;
};
} // namespace

/// GGUF begins every tensor at a multiple of this.
static uint64_t padded(uint64_t bytes) { return llvm::alignTo(bytes, 32); }

Expected<uint64_t> quern::quantize::parseSize(StringRef text) {
  static constexpr std::pair<llvm::StringLiteral, double> units[] = {
      {"kb", 1e3}, {"mb", 1e6},          {"gb", 1e9},           {"kib", 1024},
      {"b", 1},    {"mib", 1024 * 1024}, {"gib", 1073741824.0}, {"", 1}};
  StringRef digits = text.take_while([](char c) { return llvm::isDigit(c) || c == '.'; });
  std::string unit = text.drop_front(digits.size()).trim().lower();
  double number;
  for (const auto &[name, factor] : units)
    if (unit == name && !digits.getAsDouble(number) && number * factor >= 1 &&
        number * factor < 1e18)
      return uint64_t(number * factor);
  return createStringError("'" + text + "' is no size; write 80MB (1e6), 80MiB (2^20) or bytes");
}

Error Quantization::checkOptions() {
  int budgets = (options.size > 0) + (options.bits > 0) + !options.format.empty();
  if (budgets != 1)
    return createStringError("expected one of --size, --bits and --format");
  if (options.statistics.empty() && options.text.empty())
    return createStringError("expected --statistics, a file of `quern calibrate`, or --text");
  if (options.provider == Provider::Measured && options.text.empty() && options.format.empty())
    return createStringError("to measure the loss of formats a text is needed: give --text, or "
                             "--provider hessian");
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
  Expected<Baseline> predictions = Baseline::create(*program, windows);
  if (!predictions)
    return predictions.takeError();
  baseline = std::move(*predictions);
  return Error::success();
}

Error Quantization::findBudget() {
  std::vector<uint32_t> first(candidates->tensors.size(), 0);
  import::ModelFile some = candidates->choose(first);
  Expected<uint64_t> size = exporter::ggufSize(some, {});
  if (!size)
    return size.takeError();
  uint64_t tensors = 0, elements = 0, smallest = 0;
  for (const Tensor &tensor : candidates->tensors) {
    tensors += padded(tensor.candidates[0].bytes);
    elements += uint64_t(tensor.rows * tensor.columns);
    uint64_t least = UINT64_MAX;
    for (const Candidate &candidate : tensor.candidates)
      least = std::min(least, padded(candidate.bytes));
    smallest += least;
  }
  // The last tensor is not padded.
  overhead = padded(*size) - tensors;
  if (options.size) {
    if (!isGguf())
      return Error::success(); // probeExecutable() knows more
    if (options.size < overhead + smallest)
      return createStringError("--size " + llvm::Twine(options.size) +
                               " is too small: the smallest possible file has " +
                               llvm::Twine(overhead + smallest) + " bytes");
    budget = options.size - overhead;
  } else if (options.bits > 0) {
    budget = uint64_t(options.bits * double(elements) / 8);
    if (budget < smallest)
      return createStringError(
          llvm::formatv("--bits {0} is too small: the smallest formats take {1:f3}", options.bits,
                        double(smallest) * 8 / double(elements))
              .str());
  } else {
    budget = UINT64_MAX / 2; // one format for all
  }
  return Error::success();
}

std::vector<Item> Quantization::items() const {
  std::vector<Item> out;
  for (auto [t, tensor] : llvm::enumerate(candidates->tensors)) {
    Item item;
    item.name = tensor.name;
    for (const Candidate &c : tensor.candidates)
      item.options.push_back(
          {c.type->name.str(), padded(c.bytes), c.kl >= 0 ? c.kl : sensitivity[t] * c.error});
    out.push_back(std::move(item));
  }
  return out;
}

Error Quantization::measureCandidate(Tensor &tensor, Candidate &candidate) {
  if (candidate.kl >= 0)
    return Error::success();
  Expected<std::vector<float>> values = candidates->values(tensor, candidate);
  if (!values)
    return values.takeError();
  if (Error e = program->replaceWeight(tensor.name, *values, tensor.rows, tensor.columns))
    return e;
  Expected<Divergence> found = measure(*program, *baseline);
  if (!found)
    return found.takeError();
  candidate.kl = std::max(0.0, found->mean());
  return program->replaceWeight(tensor.name, {}, 0, 0);
}

Error Quantization::measureSensitivities() {
  uint64_t elements = 0;
  for (const Tensor &tensor : candidates->tensors)
    elements += uint64_t(tensor.rows * tensor.columns);
  double bits = double(budget) * 8 / double(elements);
  for (auto [t, tensor] : llvm::enumerate(candidates->tensors)) {
    if (Error e = step("measure", double(t) / double(candidates->tensors.size())))
      return e;
    // The candidate closest to the budget's bits tells most about its neighbours.
    auto distance = [&](const Candidate &c) {
      double own = double(c.bytes) * 8 / (double(tensor.rows) * double(tensor.columns));
      return std::fabs(own - bits);
    };
    Candidate *probe = &tensor.candidates[0];
    for (Candidate &c : tensor.candidates)
      if (distance(c) < distance(*probe))
        probe = &c;
    if (Error e = measureCandidate(tensor, *probe))
      return e;
    sensitivity[t] = probe->error > 0 ? probe->kl / probe->error : 0;
  }
  return Error::success();
}

Expected<double> Quantization::measureAssignment(llvm::ArrayRef<uint32_t> choice) {
  for (auto [tensor, index] : llvm::zip(candidates->tensors, choice)) {
    Expected<std::vector<float>> values = candidates->values(tensor, tensor.candidates[index]);
    if (!values)
      return values.takeError();
    if (Error e = program->replaceWeight(tensor.name, *values, tensor.rows, tensor.columns))
      return std::move(e);
  }
  Expected<Divergence> found = measure(*program, *baseline);
  if (!found)
    return found.takeError();
  for (const Tensor &tensor : candidates->tensors)
    if (Error e = program->replaceWeight(tensor.name, {}, 0, 0))
      return std::move(e);
  return found->mean();
}

Expected<Assignment> Quantization::search() { return engine(items(), budget); }

Error Quantization::allocate() {
  sensitivity.assign(candidates->tensors.size(), 1.0);
  bool measured = options.provider == Provider::Measured && options.format.empty();
  if (measured)
    if (Error e = measureSensitivities())
      return e;
  constexpr int rounds = 4;
  for (int round = 0;; ++round) {
    Expected<Assignment> found = search();
    if (!found)
      return found.takeError();
    assignment = std::move(*found);
    if (!measured || round == rounds)
      break;
    bool any = false;
    for (auto [tensor, index] : llvm::zip(candidates->tensors, assignment.choice))
      if (Candidate &c = tensor.candidates[index]; c.kl < 0) {
        any = true;
        if (Error e = step("measure", 1))
          return e;
        if (Error e = measureCandidate(tensor, c))
          return e;
      }
    if (!any)
      break;
  }
  if (Expected<Assignment> same = uniform(items(), budget))
    uniformAssignment = std::move(*same);
  else
    llvm::consumeError(same.takeError());
  if (measured) {
    Expected<double> total = measureAssignment(assignment.choice);
    if (!total)
      return total.takeError();
    kl = *total;
  }
  return Error::success();
}

/// Writes the model with these candidates; `bytes` is what that took.
Error Quantization::writeFile(llvm::ArrayRef<uint32_t> choice, StringRef path, bool force,
                              uint64_t &bytes) {
  import::ModelFile chosen = candidates->choose(choice);
  exporter::ConvertOptions convert;
  convert.force = force;
  if (isGguf()) {
    if (Error e = exporter::convert(chosen, path, convert))
      return e;
  } else {
    llvm::SmallString<128> gguf;
    if (std::error_code ec = llvm::sys::fs::createTemporaryFile("quern", "gguf", gguf))
      return createStringError("cannot create a temporary file: " + ec.message());
    convert.force = true;
    Error e = exporter::convert(chosen, gguf, convert);
    if (!e) {
      CompileOptions compile;
      compile.model = gguf.str().str();
      compile.output = path.str();
      compile.force = force;
      compile.threads = options.threads;
      e = quern::compile(compile).takeError();
    }
    llvm::sys::fs::remove(gguf);
    if (e)
      return e;
  }
  if (std::error_code ec = llvm::sys::fs::file_size(path, bytes))
    return createStringError("cannot read '" + path + "': " + ec.message());
  return Error::success();
}

/// What an executable takes beyond its matrices is known once one has been linked.
Error Quantization::probeExecutable() {
  if (Error e = step("link", 0))
    return e;
  std::vector<uint32_t> smallest;
  uint64_t tensors = 0, bytes = 0;
  for (const Tensor &tensor : candidates->tensors) {
    auto less = [](const Candidate &a, const Candidate &b) { return a.bytes < b.bytes; };
    auto least = llvm::min_element(tensor.candidates, less);
    smallest.push_back(uint32_t(least - tensor.candidates.begin()));
    tensors += padded(least->bytes);
  }
  llvm::SmallString<128> path;
  if (std::error_code ec = llvm::sys::fs::createTemporaryFile("quern", "exe", path))
    return createStringError("cannot create a temporary file: " + ec.message());
  Error e = writeFile(smallest, path, true, bytes);
  llvm::sys::fs::remove(path);
  if (e)
    return e;
  if (bytes > options.size)
    return createStringError("--size " + llvm::Twine(options.size) +
                             " is too small: the smallest possible executable has " +
                             llvm::Twine(bytes) + " bytes");
  overhead = bytes - std::min(bytes, tensors);
  budget = options.size - overhead;
  return Error::success();
}

Error Quantization::write() {
  if (Error e = step("write", 0))
    return e;
  bool force = options.force;
  // Panels take a little more or less than file blocks do, so an executable may need another try.
  for (int attempt = 0;; ++attempt) {
    if (Error e = writeFile(assignment.choice, options.output, force, written))
      return e;
    if (!options.size || written <= options.size)
      return Error::success();
    uint64_t excess = written - options.size;
    std::optional<Assignment> next;
    if (attempt < 4 && excess < budget) {
      budget -= excess;
      if (Expected<Assignment> found = search())
        next = std::move(*found);
      else
        llvm::consumeError(found.takeError());
    }
    if (!next) {
      llvm::sys::fs::remove(options.output);
      return createStringError("'" + options.output + "' would have " + llvm::Twine(written) +
                               " bytes, more than the " + llvm::Twine(options.size) + " allowed");
    }
    assignment = std::move(*next);
    kl = -1; // was another assignment's
    force = true;
  }
}

json::Object Quantization::report() {
  json::Array list;
  uint64_t elements = 0;
  for (auto [t, tensor] : llvm::enumerate(candidates->tensors)) {
    const Candidate &c = tensor.candidates[assignment.choice[t]];
    uint64_t own = uint64_t(tensor.rows * tensor.columns);
    elements += own;
    json::Object row{{"name", tensor.name},
                     {"rows", tensor.rows},
                     {"columns", tensor.columns},
                     {"format", c.type->name},
                     {"bytes", int64_t(c.bytes)},
                     {"bits", double(c.bytes) * 8 / double(own)},
                     {"error", c.error},
                     {"nearest_error", c.nearestError},
                     {"sensitivity", sensitivity[t]},
                     {"expected_loss", c.kl >= 0 ? c.kl : sensitivity[t] * c.error}};
    json::Object tried;
    for (const Candidate &other : tensor.candidates)
      tried[other.type->name] =
          json::Object{{"bytes", int64_t(other.bytes)},
                       {"error", other.error},
                       {"expected_loss", other.kl >= 0 ? other.kl : sensitivity[t] * other.error}};
    row["candidates"] = std::move(tried);
    list.push_back(std::move(row));
  }
  json::Object out{{"model", options.model},
                   {"output", options.output},
                   {"text", statistics.text},
                   {"tokens", int64_t(statistics.tokens)},
                   {"solver", methodName(options.method)},
                   {"engine", options.engine},
                   {"provider", options.provider == Provider::Measured ? "measured" : "hessian"},
                   {"damping", options.damping},
                   {"bits", double(assignment.bytes) * 8 / double(std::max<uint64_t>(elements, 1))},
                   {"bytes", int64_t(overhead + assignment.bytes)},
                   {"expected_loss", assignment.cost},
                   {"dry_run", options.dryRun},
                   {"tensors", std::move(list)}};
  if (options.size)
    out["budget"] = int64_t(options.size);
  if (kl >= 0)
    out["kl"] = kl;
  if (uniformAssignment && uniformAssignment->cost > 0)
    out["ratio_to_uniform"] = assignment.cost / uniformAssignment->cost;
  if (written)
    out["written"] = int64_t(written);
  return out;
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
  if (Error e = readStatistics())
    return std::move(e);
  if (options.provider == Provider::Measured && options.format.empty())
    if (Error e = openProgram())
      return std::move(e);
  if (Error e = candidates->solve(statistics, options))
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

void quern::quantize::printReport(const json::Object &report, llvm::raw_ostream &os) {
  auto text = [&](StringRef key) { return report.getString(key).value_or("").str(); };
  os << "text         " << text("text") << ", " << report.getInteger("tokens").value_or(0)
     << " tokens\n"
     << "solver       " << text("solver") << "\n"
     << "allocation   " << text("engine") << " over " << text("provider") << " losses\n\n"
     << llvm::left_justify("tensor", 28) << "     rows columns  format    bits      bytes   "
     << "error/nearest  expected loss\n";
  for (const json::Value &value : *report.getArray("tensors")) {
    const json::Object &t = *value.getAsObject();
    double nearest = *t.getNumber("nearest_error");
    os << llvm::left_justify(*t.getString("name"), 28)
       << llvm::format("%9lld %7lld  %-7s %6.3f %10lld %15.3f %14.3g\n", *t.getInteger("rows"),
                       *t.getInteger("columns"), t.getString("format")->str().c_str(),
                       *t.getNumber("bits"), *t.getInteger("bytes"),
                       nearest > 0 ? *t.getNumber("error") / nearest : 0,
                       *t.getNumber("expected_loss"));
  }
  os << llvm::format("\nsize         %lld bytes, %.3f bits a weight\n", *report.getInteger("bytes"),
                     *report.getNumber("bits"));
  if (auto kl = report.getNumber("kl"))
    os << llvm::format("loss         KL %.5f on the text it was chosen with\n", *kl);
  if (auto ratio = report.getNumber("ratio_to_uniform"))
    os << llvm::format("uniform      the expected loss is %.3f of one format for all\n", *ratio);
  if (report.getBoolean("dry_run").value_or(false))
    os << "output       " << text("output") << " (not written: --dry-run)\n";
  else
    os << "output       " << text("output") << ", " << report.getInteger("written").value_or(0)
       << " bytes\n";
}
