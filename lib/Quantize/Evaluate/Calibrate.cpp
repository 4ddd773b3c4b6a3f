//===- Calibrate.cpp - Statistics of a model over a text ------------------===//
//
// See Calibrate.h.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Calibrate.h"
#include "quern/Quantize/Program.h"
#include "llvm/Support/ConvertUTF.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

Expected<Windows> quern::quantize::readWindows(Predictor &program, StringRef path, int64_t window,
                                               uint64_t limit) {
  std::unique_ptr<llvm::MemoryBuffer> buffer;
  StringRef text = builtinText();
  if (!path.empty()) {
    auto read = llvm::MemoryBuffer::getFile(path, /*IsText=*/false,
                                            /*RequiresNullTerminator=*/false);
    if (!read)
      return createStringError("cannot read '" + path + "': " + read.getError().message());
    buffer = std::move(*read);
    text = buffer->getBuffer();
  }
  auto *begin = reinterpret_cast<const llvm::UTF8 *>(text.data());
  if (!llvm::isLegalUTF8String(&begin, begin + text.size()))
    return createStringError("'" + path + "' is not valid UTF-8 at byte " +
                             llvm::Twine(reinterpret_cast<const char *>(begin) - text.data()));
  Expected<std::vector<int32_t>> all = program.tokenize(text);
  if (!all)
    return all.takeError();
  Expected<std::vector<int32_t>> prefix = program.prefix();
  if (!prefix)
    return prefix.takeError();
  Windows out;
  out.prefix = std::move(*prefix);
  int64_t room = program.context() - int64_t(out.prefix.size());
  out.window = window ? window : std::min<int64_t>(512, program.context() / 2);
  if (out.window < 2 || out.window > room)
    return createStringError("a window of " + llvm::Twine(out.window) +
                             " tokens does not fit the context of " +
                             llvm::Twine(program.context()));
  uint64_t count = all->size() / uint64_t(out.window);
  if (count == 0)
    return createStringError("'" + path + "' has " + llvm::Twine(all->size()) +
                             " tokens, fewer than one window of " + llvm::Twine(out.window));
  uint64_t wanted = limit ? std::clamp<uint64_t>(limit / uint64_t(out.window), 1, count) : count;
  for (uint64_t i = 0; i < wanted; ++i) {
    uint64_t from = i * count / wanted * uint64_t(out.window);
    out.tokens.insert(out.tokens.end(), all->begin() + long(from),
                      all->begin() + long(from) + long(out.window));
  }
  return out;
}

/// What the observers of a program are for, from its metadata.
static Expected<std::vector<InputStatistics>> readObservers(const Program &program) {
  const llvm::json::Array *list = program.metadata().getArray("observers");
  if (!list)
    return createStringError("the program was compiled without observers");
  std::vector<InputStatistics> inputs;
  for (const llvm::json::Value &value : *list) {
    const llvm::json::Object *object = value.getAsObject();
    std::vector<std::string> weights;
    for (const llvm::json::Value &name : *object->getArray("weights"))
      weights.push_back(name.getAsString()->str());
    inputs.emplace_back(std::move(weights), *object->getInteger("columns"));
  }
  return inputs;
}

Expected<Statistics> quern::quantize::calibrate(const CalibrateOptions &options) {
  ProgramOptions programOptions;
  programOptions.observers = true;
  programOptions.threads = options.threads;
  auto program = Program::create(options.model, programOptions);
  if (!program)
    return program.takeError();
  Expected<Windows> windows = readWindows(**program, options.text, options.window, options.tokens);
  if (!windows)
    return windows.takeError();
  Expected<std::vector<InputStatistics>> inputs = readObservers(**program);
  if (!inputs)
    return inputs.takeError();
  Statistics out;
  out.model = (*program)->metadata().getString("name").value_or("").str();
  out.text =
      options.text.empty() ? "the built-in text" : llvm::sys::path::filename(options.text).str();
  out.inputs = std::move(*inputs);
  (*program)->setObserver(
      [](void *user, int32_t index, const float *rows, int32_t count, int32_t columns,
         int32_t thread, int32_t threads) {
        static_cast<Statistics *>(user)->inputs[size_t(index)].add(rows, count, thread, threads);
      },
      &out);
  std::vector<float> logits;
  for (size_t i = 0; i < windows->count(); ++i) {
    std::vector<int32_t> ids = windows->prefix;
    llvm::append_range(ids, windows->at(i));
    if (Error e = (*program)->run(ids, logits))
      return std::move(e);
    out.tokens += uint64_t(windows->window);
    if (options.progress && !options.progress(double(i + 1) / double(windows->count())))
      return createStringError("cancelled");
  }
  for (const InputStatistics &input : out.inputs)
    for (int64_t k = 0; k < input.columns; ++k)
      if (!std::isfinite(input.at(k, k)))
        return createStringError("'" + options.model + "': the activations that enter '" +
                                 (input.weights.empty() ? "" : input.weights[0]) +
                                 "' are not finite numbers");
  return out;
}
