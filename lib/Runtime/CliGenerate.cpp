//===- CliGenerate.cpp - Continuing a text --------------------------------===//
//
// Prefill, then token by token: choose, print what is certain to stay, step.
//
//===----------------------------------------------------------------------===//
#include "CliGenerate.h"
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace quern::runtime::cli {

std::string StopText::push(const std::string &text) {
  pending += text;
  for (const std::string &stop : stops)
    if (size_t at = pending.find(stop); at != std::string::npos)
      pending.resize(at), found = true;
  if (found) {
    std::string out;
    out.swap(pending);
    return out;
  }
  // Hold back the longest end that may be the beginning of a stop text.
  size_t hold = 0;
  for (const std::string &stop : stops)
    for (size_t n = std::min(stop.size() - 1, pending.size()); n > hold; --n)
      if (pending.compare(pending.size() - n, n, stop, 0, n) == 0)
        hold = n;
  std::string out = pending.substr(0, pending.size() - hold);
  pending.erase(0, out.size());
  return out;
}

std::string StopText::flush() {
  std::string out;
  out.swap(pending);
  return out;
}

Generator::Generator(Model &model, const Options &options) : model(model), options(options) {}

Status Generator::start() { return model.engine->newSequence(sequence); }

int32_t Generator::choose(const float *row) {
  return int32_t(std::max_element(row, row + model.engine->program().vocab_size) - row);
}

Status Generator::run(std::span<const int32_t> input, bool show, Result &result) {
  Engine &engine = *model.engine;
  int32_t context = engine.program().context;
  history.insert(history.end(), input.begin(), input.end());
  if (options.count > 0 && int64_t(history.size()) + options.count - 1 > context)
    return Status::error(QUERN_ERROR_CONTEXT,
                         "context overflow: " + std::to_string(history.size()) +
                             " tokens of text and -n " + std::to_string(options.count) +
                             " do not fit the context of " + std::to_string(context));
  StopText stop(options.stops);
  std::unique_ptr<StreamDecoder> decoder;
  if (model.tokenizer)
    decoder = std::make_unique<StreamDecoder>(*model.tokenizer, /*atStart=*/false);
  auto emit = [&](const std::string &text) {
    result.text += text;
    if (show && !text.empty()) {
      std::fwrite(text.data(), 1, text.size(), stdout);
      std::fflush(stdout);
    }
  };

  while (options.count < 0 || int64_t(result.tokens.size()) < options.count) {
    // Feed what the sequence does not hold yet: the input, later the token just made.
    size_t held = size_t(engine.length(sequence));
    if (held + 1 > size_t(context) && !result.tokens.empty()) {
      result.full = true;
      break;
    }
    int32_t next = -1;
    std::span<const int32_t> unfed = std::span<const int32_t>(history).subspan(held);
    Status s = engine.prefill(sequence, unfed, unfed.size() - 1,
                              [&](size_t, const float *row) { next = choose(row); });
    if (s.failed())
      return s;
    if (model.tokenizer && model.tokenizer->isEnd(next)) {
      result.end = next;
      break;
    }
    if (!decoder && show) // no tokenizer: ids are all there is to show
      std::printf("%s%d", result.tokens.empty() ? "" : ",", next);
    result.tokens.push_back(next);
    history.push_back(next);
    if (decoder)
      emit(stop.push(decoder->push(next)));
    if (stop.stopped()) {
      result.stopped = true;
      break;
    }
  }
  if (!result.stopped) {
    if (decoder)
      emit(stop.push(decoder->flush()));
    if (!stop.stopped())
      emit(stop.flush());
  }
  return {};
}

static Status writeRows(Model &model, const std::vector<int32_t> &ids, const std::string &path) {
  int32_t sequence;
  if (Status s = model.engine->newSequence(sequence); s.failed())
    return s;
  std::string aside = path + ".tmp";
  std::FILE *out = std::fopen(aside.c_str(), "wb");
  if (!out)
    return Status::error(QUERN_ERROR_FILE, path + ": cannot write: " + std::strerror(errno));
  size_t vocab = size_t(model.engine->program().vocab_size);
  Status s = model.engine->prefill(sequence, ids, 0, [&](size_t, const float *row) {
    std::fwrite(row, sizeof(float), vocab, out);
  });
  bool bad = std::ferror(out) != 0;
  bad |= std::fclose(out) != 0;
  if (s.ok() && (bad || std::rename(aside.c_str(), path.c_str()) != 0))
    s = Status::error(QUERN_ERROR_FILE, path + ": cannot write: " + std::strerror(errno));
  if (s.failed())
    std::remove(aside.c_str());
  (void)model.engine->freeSequence(sequence);
  return s;
}

static Json idArray(const std::vector<int32_t> &ids) {
  Json out = Json::array();
  for (int32_t id : ids)
    out.push(id);
  return out;
}

Status generate(Model &model, const Options &options) {
  std::vector<int32_t> prompt;
  if (Status s = promptTokens(model, options, prompt); s.failed())
    return s;
  if (!options.rows.empty())
    if (Status s = writeRows(model, prompt, options.rows); s.failed())
      return s;
  Generator generator(model, options);
  if (Status s = generator.start(); s.failed())
    return s;
  Result result;
  bool show = !options.json;
  if (Status s = generator.run(prompt, show, result); s.failed())
    return s;
  if (options.json)
    std::printf("%s\n", Json::object()
                            .set("prompt_tokens", idArray(prompt))
                            .set("tokens", idArray(result.tokens))
                            .set("text", result.text)
                            .set("stopped_by", result.end >= 0  ? "end"
                                               : result.full    ? "context"
                                               : result.stopped ? "stop"
                                                                : "count")
                            .print()
                            .c_str());
  else if (options.count != 0)
    std::printf("\n");
  if (result.full)
    return Status::error(QUERN_ERROR_CONTEXT, "the context of " +
                                                  std::to_string(model.engine->program().context) +
                                                  " tokens is full");
  return {};
}

} // namespace quern::runtime::cli
