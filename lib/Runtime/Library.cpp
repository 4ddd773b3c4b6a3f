//===- Library.cpp - The C interface of a compiled model ------------------===//
//
// Thin over Engine and Tokenizer: checks arguments, turns failures into codes, and lets
// no exception out.
//
//===----------------------------------------------------------------------===//
#include "quern/Runtime/Engine.h"
#include "quern/Runtime/Model.h"
#include "quern/Runtime/quern.h"
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <new>

using namespace quern::runtime;

struct quern_model {
  Model model;
  quern_logits_callback callback = nullptr;
  void *user = nullptr;
};

static quern_status report(const Status &status, quern_error *error) {
  if (error) {
    error->code = status.code;
    std::snprintf(error->message, sizeof error->message, "%s", status.message.c_str());
  }
  return status.code;
}

static quern_status badArgument(const char *what, quern_error *error) {
  return report(Status::error(QUERN_ERROR_ARGUMENT, what), error);
}

/// Runs `body`, which returns a Status; the only exceptions the runtime meets are the standard
/// library's for lack of memory.
template <typename Body> static quern_status guarded(quern_error *error, Body body) {
  try {
    return report(body(), error);
  } catch (const std::exception &e) {
    if (error) {
      error->code = QUERN_ERROR_MEMORY;
      std::snprintf(error->message, sizeof error->message, "out of memory (%s)", e.what());
    }
    return QUERN_ERROR_MEMORY;
  }
}

extern "C" {

void quern_default_options(quern_options *options) {
  if (!options)
    return;
  *options = {};
  options->struct_size = sizeof *options;
  options->max_sequences = 1;
  options->pin_threads = 1;
}

quern_status quern_load(const quern_options *given, quern_model **out, quern_error *error) {
  if (!out)
    return badArgument("quern_load: model is null", error);
  *out = nullptr;
  quern_options o;
  quern_default_options(&o);
  if (given) { // a caller compiled with an older header gives a smaller struct
    if (given->struct_size < sizeof(size_t) || given->struct_size > sizeof o)
      return badArgument("quern_load: options->struct_size is not sizeof(quern_options)", error);
    std::memcpy(&o, given, given->struct_size);
  }
  if (o.threads < 0 || o.max_sequences < 0)
    return badArgument("quern_load: threads and max_sequences must not be negative", error);
  return guarded(error, [&]() -> Status {
    EngineOptions options;
    options.program = &quern_program_v1;
    if (o.payload_path)
      options.payloadPath = o.payload_path;
    if (o.target)
      options.target = o.target;
    options.threads = o.threads;
    options.maxSequences = o.max_sequences ? o.max_sequences : 1;
    options.hugePages = o.huge_pages != 0;
    options.pinThreads = o.pin_threads != 0;
    auto m = std::make_unique<quern_model>();
    if (Status s = m->model.load(options); s.failed())
      return s;
    *out = m.release();
    return {};
  });
}

void quern_free(quern_model *model) { delete model; }

quern_status quern_model_info(const quern_model *model, quern_info *info) {
  if (!model || !info)
    return QUERN_ERROR_ARGUMENT;
  const Engine &e = *model->model.engine;
  const quern_program &p = e.program();
  info->vocab_size = p.vocab_size;
  info->width = p.width;
  info->context = p.context;
  info->max_tokens = p.max_tokens;
  info->max_sequences = e.maxSequences();
  info->threads = model->model.engine->threads().size();
  info->bos = model->model.tokenizer ? model->model.tokenizer->bos() : -1;
  info->eos = model->model.tokenizer ? model->model.tokenizer->eos() : -1;
  info->target = e.target().name;
  info->metadata = model->model.metadataText.c_str();
  return QUERN_OK;
}

quern_status quern_tokenize(const quern_model *model, const char *text, size_t size,
                            int32_t special, int32_t *ids, size_t capacity, size_t *count,
                            quern_error *error) {
  if (!model || (!text && size) || (!ids && capacity) || !count)
    return badArgument("quern_tokenize: a pointer is null", error);
  return guarded(error, [&]() -> Status {
    std::vector<int32_t> tokens;
    if (Status s = model->model.tokenize({text, size}, special != 0, special != 0, tokens);
        s.failed())
      return s;
    *count = tokens.size();
    if (tokens.size() > capacity)
      return Status::error(QUERN_ERROR_BUFFER, "quern_tokenize: the text has " +
                                                   std::to_string(tokens.size()) +
                                                   " tokens, the buffer room for " +
                                                   std::to_string(capacity));
    std::copy(tokens.begin(), tokens.end(), ids);
    return {};
  });
}

quern_status quern_token_text(const quern_model *model, int32_t id, char *buffer, size_t capacity,
                              size_t *size, quern_error *error) {
  if (!model || (!buffer && capacity) || !size)
    return badArgument("quern_token_text: a pointer is null", error);
  return guarded(error, [&]() -> Status {
    if (!model->model.tokenizer)
      return model->model.noTokenizer();
    if (id < 0 || size_t(id) >= model->model.tokenizer->size())
      return Status::error(QUERN_ERROR_ARGUMENT,
                           "quern_token_text: no token " + std::to_string(id));
    std::string text = model->model.tokenizer->decode(id, /*special=*/true);
    *size = text.size();
    if (text.size() > capacity)
      return Status::error(QUERN_ERROR_BUFFER, "quern_token_text: the buffer is too small");
    std::copy(text.begin(), text.end(), buffer);
    return {};
  });
}

quern_status quern_sequence_new(quern_model *model, int32_t *sequence, quern_error *error) {
  if (!model || !sequence)
    return badArgument("quern_sequence_new: a pointer is null", error);
  return guarded(error, [&] { return model->model.engine->newSequence(*sequence); });
}

quern_status quern_sequence_free(quern_model *model, int32_t sequence, quern_error *error) {
  if (!model)
    return badArgument("quern_sequence_free: model is null", error);
  return guarded(error, [&] { return model->model.engine->freeSequence(sequence); });
}

int32_t quern_sequence_length(const quern_model *model, int32_t sequence) {
  return model ? model->model.engine->length(sequence) : -1;
}

quern_status quern_rollback(quern_model *model, int32_t sequence, int32_t length,
                            quern_error *error) {
  if (!model)
    return badArgument("quern_rollback: model is null", error);
  return guarded(error, [&] { return model->model.engine->rollback(sequence, length); });
}

/// quern_prefill and quern_prefill_all: rows from `firstOutput` on go to `logits` in order.
static quern_status prefill(quern_model *model, int32_t sequence, const int32_t *tokens,
                            size_t count, size_t firstOutput, float *logits, quern_error *error) {
  if (!model || !tokens || count == 0)
    return badArgument("quern_prefill: needs a model and at least one token", error);
  return guarded(error, [&] {
    size_t width = size_t(model->model.engine->program().vocab_size);
    return model->model.engine->prefill(
        sequence, {tokens, count}, firstOutput, [&](size_t index, const float *row) {
          std::copy_n(row, width, logits + (index - firstOutput) * width);
        });
  });
}

quern_status quern_prefill(quern_model *model, int32_t sequence, const int32_t *tokens,
                           size_t count, float *logits, quern_error *error) {
  size_t first = !logits || count == 0 ? count : count - 1;
  return prefill(model, sequence, tokens, count, first, logits, error);
}

quern_status quern_prefill_all(quern_model *model, int32_t sequence, const int32_t *tokens,
                               size_t count, float *logits, quern_error *error) {
  if (!logits)
    return badArgument("quern_prefill_all: logits is null", error);
  return prefill(model, sequence, tokens, count, 0, logits, error);
}

quern_status quern_decode(quern_model *model, size_t count, const int32_t *sequences,
                          const int32_t *tokens, float *logits, quern_error *error) {
  if (!model || !sequences || !tokens || count == 0)
    return badArgument("quern_decode: needs a model, sequences and tokens", error);
  return guarded(error, [&] {
    size_t width = size_t(model->model.engine->program().vocab_size);
    return model->model.engine->decode({sequences, count}, {tokens, count},
                                       [&](size_t index, const float *row) {
                                         if (logits)
                                           std::copy_n(row, width, logits + index * width);
                                       });
  });
}

quern_status quern_embed(quern_model *model, int32_t sequence, const int32_t *tokens, size_t count,
                         float *embedding, quern_error *error) {
  if (!model || !tokens || count == 0 || !embedding)
    return badArgument("quern_embed: needs a model, tokens and a buffer", error);
  return guarded(error, [&] {
    size_t width = size_t(model->model.engine->program().width);
    return model->model.engine->embed(
        sequence, {tokens, count}, count - 1,
        [&](size_t, const float *row) { std::copy_n(row, width, embedding); });
  });
}

quern_status quern_save(const quern_model *model, int32_t sequence, void *buffer, size_t capacity,
                        size_t *size, quern_error *error) {
  if (!model || !size || (!buffer && capacity))
    return badArgument("quern_save: a pointer is null", error);
  return guarded(error, [&]() -> Status {
    std::vector<uint8_t> state;
    if (Status s = model->model.engine->save(sequence, state); s.failed())
      return s;
    *size = state.size();
    if (state.size() > capacity)
      return Status::error(QUERN_ERROR_BUFFER, "quern_save: the state has " +
                                                   std::to_string(state.size()) +
                                                   " bytes, the buffer room for " +
                                                   std::to_string(capacity));
    std::memcpy(buffer, state.data(), state.size());
    return {};
  });
}

quern_status quern_restore(quern_model *model, int32_t sequence, const void *state, size_t size,
                           quern_error *error) {
  if (!model || !state)
    return badArgument("quern_restore: a pointer is null", error);
  return guarded(error, [&] {
    return model->model.engine->restore(sequence, {static_cast<const uint8_t *>(state), size});
  });
}

quern_status quern_set_logits_callback(quern_model *model, quern_logits_callback callback,
                                       void *user) {
  if (!model)
    return QUERN_ERROR_ARGUMENT;
  model->callback = callback;
  model->user = user;
  int32_t vocab = model->model.engine->program().vocab_size;
  if (!callback)
    model->model.engine->logitsHook = nullptr;
  else
    model->model.engine->logitsHook = [model, vocab](int32_t sequence, int32_t position,
                                                     float *row) {
      model->callback(model->user, sequence, position, row, vocab);
    };
  return QUERN_OK;
}

quern_status quern_set_observer(quern_model *model, quern_observer_callback observer, void *user) {
  if (!model)
    return QUERN_ERROR_ARGUMENT;
  model->model.engine->observer = observer;
  model->model.engine->observerContext = user;
  return QUERN_OK;
}

quern_status quern_set_boundary(quern_model *model, quern_boundary_callback boundary, void *user) {
  if (!model)
    return QUERN_ERROR_ARGUMENT;
  model->model.engine->boundary = boundary;
  model->model.engine->boundaryContext = user;
  return QUERN_OK;
}

quern_status quern_replace_weight(quern_model *model, const char *name, const void *data,
                                  size_t size, quern_error *error) {
  if (!model || !name)
    return badArgument("quern_replace_weight: a pointer is null", error);
  return guarded(error, [&] {
    return model->model.engine->replaceWeight(name, static_cast<const uint8_t *>(data), size);
  });
}

} // extern "C"
