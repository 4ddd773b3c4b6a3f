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

static SamplerOptions samplerOptions(const Options &o) {
  SamplerOptions s;
  s.temperature = float(o.temperature);
  s.topK = int32_t(o.topK);
  s.topP = float(o.topP);
  s.minP = float(o.minP);
  s.repeatPenalty = float(o.repeatPenalty);
  s.seed = o.seed;
  return s;
}

Generator::Generator(Model &model, const Options &options)
    : model(model), options(options), sampler(samplerOptions(options)) {}

Status Generator::start() {
  if (std::string problem = samplerOptions(options).check(); !problem.empty())
    return Status::error(QUERN_ERROR_ARGUMENT, problem);
  return model.engine->newSequence(sequence);
}

/// Feeds what the sequence does not hold yet and chooses the token that follows.
Status Generator::next(int32_t &token) {
  Engine &engine = *model.engine;
  auto unfed = std::span<const int32_t>(history).subspan(size_t(engine.length(sequence)));
  Status s = engine.prefill(sequence, unfed, unfed.size() - 1, [&](size_t, const float *row) {
    token = sampler.sample({row, size_t(engine.program().vocab_size)}, history);
  });
  if (s.ok() && token < 0)
    return Status::error(QUERN_ERROR_ARGUMENT, "the model's predictions are not finite numbers");
  return s;
}

Status Generator::run(std::span<const int32_t> all, bool show, Result &result) {
  Engine &engine = *model.engine;
  int32_t context = engine.program().context;
  // Keep the part of the cache that still applies; at least one token must be fed.
  size_t held = size_t(engine.length(sequence)), same = 0;
  while (same < held && same + 1 < all.size() && history[same] == all[same])
    ++same;
  if (Status s = engine.rollback(sequence, int32_t(same)); s.failed())
    return s;
  history.assign(all.begin(), all.end());
  if (options.count > 0 && int64_t(history.size()) + options.count - 1 > context)
    return Status::error(QUERN_ERROR_CONTEXT,
                         "context overflow: " + std::to_string(history.size()) +
                             " tokens of text and -n " + std::to_string(options.count) +
                             " do not fit the context of " + std::to_string(context));
  StopMatcher stop(options.stops);
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
    if (engine.length(sequence) >= context && !result.tokens.empty()) {
      result.full = true;
      break;
    }
    int32_t token = -1;
    if (Status s = next(token); s.failed())
      return s;
    if (model.tokenizer && !options.ignoreEnd && model.tokenizer->isEnd(token)) {
      result.end = token;
      break;
    }
    if (!decoder && show) // no tokenizer: ids are all there is to show
      std::printf("%s%d", result.tokens.empty() ? "" : ",", token);
    result.tokens.push_back(token);
    history.push_back(token);
    if (decoder)
      emit(stop.push(decoder->push(token)));
    if (stop.stopped()) {
      result.stopped = true;
      break;
    }
  }
  if (!result.stopped) {
    if (decoder)
      emit(stop.push(decoder->flush()));
    emit(stop.flush());
  }
  return {};
}

static Json idArray(std::span<const int32_t> ids) {
  Json out = Json::array();
  for (int32_t id : ids)
    out.push(id);
  return out;
}

Json Result::report(std::span<const int32_t> prompt) const {
  return Json::object()
      .set("prompt_tokens", idArray(prompt))
      .set("tokens", idArray(tokens))
      .set("text", text)
      .set("stopped_by", end >= 0  ? "end"
                         : full    ? "context"
                         : stopped ? "stop"
                                   : "count");
}

static Status writeRows(Model &model, const std::vector<int32_t> &ids, const Options &options) {
  const std::string &path = options.rows;
  if (Status s = checkOutput(path, options.force); s.failed())
    return s;
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

Status generate(Model &model, const Options &options) {
  std::vector<int32_t> prompt;
  if (Status s = promptTokens(model, options, prompt); s.failed())
    return s;
  if (!options.rows.empty())
    if (Status s = writeRows(model, prompt, options); s.failed())
      return s;
  Generator generator(model, options);
  if (Status s = generator.start(); s.failed())
    return s;
  Result result;
  if (Status s = generator.run(prompt, !options.json, result); s.failed())
    return s;
  if (options.json)
    std::printf("%s\n", result.report(prompt).print().c_str());
  else if (options.count != 0)
    std::printf("\n");
  if (result.full)
    return Status::error(QUERN_ERROR_CONTEXT, "the context of " +
                                                  std::to_string(model.engine->program().context) +
                                                  " tokens is full");
  return {};
}

} // namespace quern::runtime::cli
