//===- Calibrate.cpp - Statistics of a model over a text ------------------===//
//
// The model runs part by part: all sequences through one part, then all through the next, so that
// the sums of one part alone are in memory. In the folder of a run lie
//
//   calibrate.KEY.N   statistics of part N, complete
//   stream.KEY.N      what leaves part N, the last complete one
//
// KEY is the hash of model, texts and options. A run that was killed begins with the first part
// that is not there. Every part reads the same bytes whether the one before it ran just now or
// long ago, so the result does not depend on interruptions.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Calibrate.h"
#include "Conversations.h"
#include "ModelSource.h"
#include "Sequences.h"
#include "Store.h"
#include "quern/Quantize/Program.h"
#include "quern/Support/OutputFile.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Path.h"
#include <cmath>

using namespace quern;
using namespace quern::quantize;
using llvm::ArrayRef;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
namespace json = llvm::json;

namespace {
/// What an observer of the program is for.
struct Observed {
  size_t part = 0;
  std::vector<std::string> weights;
  int64_t columns = 0;
  bool ids = false;    ///< shows what experts each token goes to, no activations
  bool slices = false; ///< has a row for each of them
  int64_t experts = 0; ///< in the stacks that read it; 0: no stacks
};

/// The experts that the tokens of a step go to, [tokens][chosen].
struct Routing {
  const int32_t *ids = nullptr;
  int64_t tokens = 0, chosen = 0;
};

class Calibration {
public:
  Calibration(const CalibrateOptions &options, Store &store, std::string key)
      : options(options), store(store), key(std::move(key)) {}
  Error run(StringRef output, bool force);

private:
  Error readSequences();
  Error readObservers();
  Error runPart(size_t part);
  Error runSequences(size_t part, bool observes, bool writes);
  void prepare(size_t part);
  void observe(size_t index, const float *rows, int64_t count, int32_t thread, int32_t threads);
  void observeExperts(size_t index, const float *rows, int32_t thread, int32_t threads);
  void noteCoverage(const Statistics &part) const;
  Error checkFinite() const;
  Error assemble(StringRef output, bool force);
  Error step(size_t part, double share);
  double workOf(size_t part) const;
  std::string statisticsPath(size_t part) const {
    return store.path("calibrate." + key + "." + std::to_string(part));
  }
  std::string streamPath(size_t part) const {
    return store.path("stream." + key + "." + std::to_string(part));
  }

  const CalibrateOptions &options;
  Store &store;
  std::string key;
  std::unique_ptr<Program> program;
  std::vector<std::vector<int32_t>> sequences;
  Statistics head; ///< without inputs
  std::vector<Observed> observers;
  /// Of the part that is run: statistics by observer, those of first tokens and experts apart.
  std::vector<InputStatistics> inputs, firsts;
  std::vector<std::vector<InputStatistics>> experts;
  std::vector<Routing> routing; ///< by thread
  /// By thread and observer: rows of the sequence so far.
  std::vector<std::vector<int64_t>> seen;
};
} // namespace

/// Windows of texts, and conversations.
Error Calibration::readSequences() {
  std::vector<TextSource> texts, chats;
  for (const TextSource &source : options.texts)
    (source.chat ? chats : texts).push_back(source);
  Windows windows;
  if (texts.empty() && !chats.empty()) {
    if (Error e = program->prefix().moveInto(windows.prefix))
      return e;
    windows.window =
        options.window ? options.window : std::min<int64_t>(512, program->context() / 2);
    if (windows.window < 2 || windows.window + int64_t(windows.prefix.size()) > program->context())
      return createStringError("a window of " + llvm::Twine(windows.window) +
                               " tokens does not fit the context of " +
                               llvm::Twine(program->context()));
  } else if (Error e =
                 readWindows(*program, texts, options.window, options.tokens).moveInto(windows)) {
    return e;
  }
  for (size_t i = 0; i < windows.count(); ++i) {
    sequences.push_back(windows.prefix);
    llvm::append_range(sequences.back(), windows.at(i));
  }
  for (const TextSource &chat : chats) {
    auto read = readConversations(options.model, chat, windows.window, windows.prefix);
    if (!read)
      return read.takeError();
    llvm::append_range(sequences, std::move(*read));
  }
  auto tokensOf = [&](const std::vector<int32_t> &ids) {
    return uint64_t(ids.size() - windows.prefix.size());
  };
  uint64_t all = 0;
  for (const std::vector<int32_t> &ids : sequences)
    all += tokensOf(ids);
  // As many as the limit allows, spread evenly.
  if (options.tokens && all > options.tokens && !chats.empty()) {
    size_t count = sequences.size(),
           wanted = size_t(double(count) * double(options.tokens) / double(all));
    std::vector<std::vector<int32_t>> kept;
    for (size_t i = 0; i < std::max<size_t>(wanted, 1); ++i)
      kept.push_back(std::move(sequences[i * count / std::max<size_t>(wanted, 1)]));
    sequences = std::move(kept);
  }
  for (const std::vector<int32_t> &ids : sequences)
    head.tokens += tokensOf(ids);
  head.window = uint32_t(windows.window);
  return Error::success();
}

/// How many matrices are stacked in a weight; 0 for a matrix.
static int64_t expertsOf(const json::Object &metadata, StringRef weight) {
  if (const json::Array *tensors = metadata.getArray("tensors"))
    for (const json::Value &value : *tensors)
      if (const json::Object *tensor = value.getAsObject();
          tensor && tensor->getString("name") == weight)
        if (const json::Array *shape = tensor->getArray("shape"); shape && shape->size() == 3)
          return (*shape)[0].getAsInteger().value_or(0);
  return 0;
}

Error Calibration::readObservers() {
  const json::Array *list = program->metadata().getArray("observers");
  if (!list)
    return createStringError("the program was compiled without observers");
  for (const json::Value &value : *list) {
    const json::Object *object = value.getAsObject();
    Observed &out = observers.emplace_back();
    out.ids = object->get("ids") != nullptr;
    out.slices = object->get("slices") != nullptr;
    out.part = size_t(*object->getInteger("part"));
    out.columns = *object->getInteger("columns");
    for (const json::Value &name : *object->getArray("weights"))
      out.weights.push_back(name.getAsString()->str());
    out.experts = out.weights.empty() ? 0 : expertsOf(program->metadata(), out.weights[0]);
  }
  return Error::success();
}

/// Proportional to the time of a part: its products, and the sums over their inputs.
double Calibration::workOf(size_t part) const {
  double work = 1;
  for (const Observed &observed : observers)
    if (observed.part == part)
      work += double(observed.columns) * double(observed.columns) *
              (1 + double(observed.weights.size()));
  return work;
}

Error Calibration::step(size_t part, double share) {
  if (!options.progress)
    return Error::success();
  double done = workOf(part) * share, all = 0;
  for (size_t p = 0; p < program->parts(); ++p) {
    all += workOf(p);
    done += p < part ? workOf(p) : 0;
  }
  if (!options.progress(done / all))
    return createStringError("cancelled");
  return Error::success();
}

void Calibration::prepare(size_t part) {
  inputs.clear();
  firsts.clear();
  experts.assign(observers.size(), {});
  routing.assign(size_t(program->threads()), {});
  for (auto [index, observed] : llvm::enumerate(observers)) {
    bool own = observed.part == part && !observed.ids && !observed.experts;
    for (int64_t e = 0; observed.part == part && !observed.ids && e < observed.experts; ++e) {
      experts[index].emplace_back(observed.weights, observed.columns, options.hessians);
      experts[index].back().expert = int32_t(e);
    }
    inputs.push_back(own ? InputStatistics(observed.weights, observed.columns, options.hessians)
                         : InputStatistics());
    firsts.push_back(own && options.firstToken
                         ? InputStatistics(observed.weights, observed.columns, /*hessian=*/false)
                         : InputStatistics());
    if (options.firstToken) {
      inputs.back().positions = Positions::Rest;
      firsts.back().positions = Positions::First;
    }
  }
  seen.assign(size_t(program->threads()), std::vector<int64_t>(observers.size()));
}

void Calibration::observe(size_t index, const float *rows, int64_t count, int32_t thread,
                          int32_t threads) {
  const Observed &observed = observers[index];
  if (observed.ids) {
    // The buffer stays as it is until the last product with experts of this layer.
    routing[size_t(thread)] = {reinterpret_cast<const int32_t *>(rows), count, observed.columns};
    return;
  }
  if (observed.experts)
    return observeExperts(index, rows, thread, threads);
  if (options.firstToken && count > 0 && seen[size_t(thread)][index]++ == 0) {
    firsts[index].add(rows, 1, thread, threads);
    rows += inputs[index].columns;
    --count;
  }
  inputs[index].add(rows, count, thread, threads);
}

/// Every expert gets the rows that go to it. Every thread gathers them for itself.
void Calibration::observeExperts(size_t index, const float *rows, int32_t thread, int32_t threads) {
  const Observed &observed = observers[index];
  const Routing &route = routing[size_t(thread)];
  std::vector<float> gathered;
  for (auto [e, input] : llvm::enumerate(experts[index])) {
    gathered.clear();
    for (int64_t place = 0; place < route.tokens * route.chosen; ++place) {
      if (route.ids[place] != int32_t(e))
        continue;
      const float *row = rows + (observed.slices ? place : place / route.chosen) * observed.columns;
      gathered.insert(gathered.end(), row, row + observed.columns);
    }
    if (!gathered.empty())
      input.add(gathered.data(), int64_t(gathered.size()) / observed.columns, thread, threads);
  }
}

/// Names experts that saw so few tokens that their sums say little: fewer than they have columns.
void Calibration::noteCoverage(const Statistics &part) const {
  llvm::MapVector<StringRef, std::string> few; // by stack
  for (const InputStatistics &input : part.inputs) {
    if (input.expert < 0 || input.rows >= uint64_t(input.columns))
      continue;
    std::string &list = few[input.weights[0]];
    list += llvm::formatv("{0}{1} ({2})", list.empty() ? "" : ", ", input.expert, input.rows).str();
  }
  for (const auto &[weight, list] : few)
    if (options.note)
      options.note("experts of '" + weight.str() + "' that saw few tokens, less than they have " +
                   "columns, with their number: " + list);
}

Error Calibration::checkFinite() const {
  auto check = [&](const InputStatistics &input) -> Error {
    for (double square : input.sumSquare)
      if (!std::isfinite(square))
        return createStringError("'" + options.model + "': the activations that enter '" +
                                 input.name() + "' are not finite numbers");
    return Error::success();
  };
  for (auto [index, input] : llvm::enumerate(inputs)) {
    if (Error e = check(input))
      return e;
    for (const InputStatistics &expert : experts[index])
      if (Error e = check(expert))
        return e;
  }
  return Error::success();
}

/// All sequences through a part, from what left the one before it.
Error Calibration::runSequences(size_t part, bool observes, bool writes) {
  bool last = part + 1 == program->parts();
  std::optional<SequenceReader> from;
  if (part > 0) {
    Expected<SequenceReader> opened = SequenceReader::open(streamPath(part - 1));
    if (!opened)
      return opened.takeError();
    from.emplace(std::move(*opened));
  }
  std::optional<SequenceWriter> to;
  if (!last && writes) {
    Expected<SequenceWriter> created = SequenceWriter::create(streamPath(part));
    if (!created)
      return created.takeError();
    to.emplace(std::move(*created));
  }
  Program::Observer observer = [](void *user, int32_t index, const float *rows, int32_t count,
                                  int32_t columns, int32_t thread, int32_t threads) {
    static_cast<Calibration *>(user)->observe(size_t(index), rows, count, thread, threads);
  };
  program->setObserver(observes ? observer : nullptr, this);
  std::vector<float> entering, leaving, logits;
  size_t columns = size_t(program->streamColumns());
  for (auto [done, ids] : llvm::enumerate(sequences)) {
    if (from)
      if (Error e = from->next(ids.size() * columns, entering))
        return e;
    leaving.resize(to ? ids.size() * columns : 0);
    for (std::vector<int64_t> &own : seen)
      llvm::fill(own, 0);
    auto keep = [&](size_t left, size_t row, ArrayRef<float> values) {
      if (left == part && to)
        llvm::copy(values, leaving.begin() + long(row * columns));
    };
    if (Error e = program->runParts(ids, part, part + 1, entering, keep, &logits))
      return e;
    if (to)
      to->add(leaving);
    // A part that runs twice is half done after the first time.
    double share = double(done + 1) / double(sequences.size());
    if (Error e = step(part, observes && writes ? share : observes ? share / 2 : 0.5 + share / 2))
      return e;
  }
  return to ? to->keep() : Error::success();
}

Error Calibration::runPart(size_t part) {
  prepare(part);
  if (Error e = runSequences(part, /*observes=*/true, /*writes=*/!options.between))
    return e;
  if (Error e = checkFinite())
    return e;
  // What follows can be run from now on; what went before need not be again.
  Expected<StatisticsWriter> writer = StatisticsWriter::create(statisticsPath(part), true);
  if (!writer)
    return writer.takeError();
  for (auto *kind : {&inputs, &firsts})
    for (const InputStatistics &input : *kind)
      if (input.columns)
        writer->add(input);
  for (const std::vector<InputStatistics> &stack : experts)
    for (const InputStatistics &input : stack)
      writer->add(input);
  if (Error e = writer->keep(head))
    return e;
  if (options.between) {
    Expected<Statistics> own = Statistics::read(statisticsPath(part));
    if (!own)
      return own.takeError();
    if (Error e = options.between(*program, part, *own))
      return e;
    llvm::sys::fs::remove(statisticsPath(part));
    if (part + 1 < program->parts())
      if (Error e = runSequences(part, /*observes=*/false, /*writes=*/true))
        return e;
  }
  if (part > 0)
    llvm::sys::fs::remove(streamPath(part - 1));
  return Error::success();
}

/// Puts the files of the parts together.
Error Calibration::assemble(StringRef output, bool force) {
  Expected<StatisticsWriter> writer = StatisticsWriter::create(output, force);
  if (!writer)
    return writer.takeError();
  for (size_t part = 0; part < program->parts(); ++part) {
    Expected<Statistics> own = Statistics::read(statisticsPath(part));
    if (!own)
      return own.takeError();
    for (const InputStatistics &input : own->inputs)
      writer->add(input);
    noteCoverage(*own);
  }
  if (Error e = writer->keep(head))
    return e;
  for (size_t part = 0; part < program->parts(); ++part)
    llvm::sys::fs::remove(statisticsPath(part));
  return Error::success();
}

Error Calibration::run(StringRef output, bool force) {
  ProgramOptions programOptions;
  programOptions.observers = programOptions.parts = true;
  programOptions.threads = options.threads;
  auto made = Program::create(options.model, programOptions);
  if (!made)
    return made.takeError();
  program = std::move(*made);
  if (Error e = readSequences())
    return e;
  if (Error e = readObservers())
    return e;
  head.model = program->metadata().getString("name").value_or("").str();
  if (head.model.empty())
    head.model = llvm::sys::path::filename(options.model).str();
  for (const TextSource &text : options.texts) {
    head.text += (head.text.empty() ? "" : ", ") + llvm::sys::path::filename(text.path).str();
    if (text.share != 1)
      head.text += llvm::formatv(" ({0:P0})", text.share).str();
  }
  if (head.text.empty())
    head.text = "the built-in text";
  // The parts in front that are there; the stream that leaves the last of them must be, too.
  size_t first = 0;
  auto exists = [](const std::string &path) { return llvm::sys::fs::exists(path); };
  while (first < program->parts() && exists(statisticsPath(first)))
    ++first;
  while (first > 0 && first < program->parts() && !exists(streamPath(first - 1)))
    --first;
  for (size_t part = first; part < program->parts(); ++part)
    if (Error e = runPart(part))
      return e;
  return options.between ? Error::success() : assemble(output, force);
}

/// The hash of all that the result depends on.
static Expected<std::string> keyOf(const CalibrateOptions &options) {
  Expected<ModelSource> source = ModelSource::open(options.model);
  if (!source)
    return source.takeError();
  Key key("calibrate 1");
  if (Error e = source->addTo(key))
    return std::move(e);
  key.add(llvm::formatv("{0}", json::Value(json::Object(source->model.metadata))).str());
  for (const TextSource &text : options.texts) {
    auto buffer = llvm::MemoryBuffer::getFile(text.path, /*IsText=*/false,
                                              /*RequiresNullTerminator=*/false);
    if (!buffer)
      return createStringError("cannot read '" + text.path + "': " + buffer.getError().message());
    key.add(llvm::sys::path::filename(text.path)).add((*buffer)->getBuffer()).add(text.share);
    key.add(double(text.chat));
  }
  key.add(double(options.window)).add(double(options.tokens)).add(double(options.firstToken));
  key.add(double(options.hessians));
  return key.digits();
}

Expected<Statistics> quern::quantize::calibrate(const CalibrateOptions &options, StringRef output,
                                                bool force) {
  Expected<Store> store = Store::create(options.between ? "" : options.work);
  if (!store)
    return store.takeError();
  std::string key;
  if (!options.work.empty() && !options.between) // else nothing is there
    if (Error e = keyOf(options).moveInto(key))
      return std::move(e);
  std::string path = output.str();
  bool imatrix = isImatrixName(output);
  if (output.empty() || imatrix) {
    path = store->path("statistics." + key);
    if (output.empty() && llvm::sys::fs::exists(path)) {
      Expected<Statistics> found = Statistics::read(path);
      if (found)
        return found;
      llvm::consumeError(found.takeError()); // damaged: made again
    }
  }
  if (Error e = Calibration(options, *store, key).run(path, force || path != output))
    return std::move(e);
  if (options.between)
    return Statistics();
  Expected<Statistics> made = Statistics::read(path);
  if (made && imatrix) {
    llvm::sys::fs::remove(path);
    if (Error e = made->writeImatrix(output, force))
      return std::move(e);
  }
  return made;
}
