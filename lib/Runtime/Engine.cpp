//===- Engine.cpp - Steps, sequences and the KV cache ---------------------===//
//
// Every request is checked before generated code runs, which itself checks nothing.
//
//===----------------------------------------------------------------------===//
#include "quern/Runtime/Engine.h"
#include "quern/Runtime/Cpu.h"
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <sys/mman.h>

namespace quern::runtime {

Memory::~Memory() {
  if (bytes)
    munmap(bytes, length);
}

Status Memory::allocate(uint64_t size, const char *purpose) {
  if (size == 0)
    return {};
  void *p = MAP_FAILED;
  if (size <= uint64_t(std::numeric_limits<int64_t>::max()))
    p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED)
    return Status::error(QUERN_ERROR_MEMORY, "out of memory: cannot allocate " +
                                                 std::to_string(size >> 20) + " MiB for " +
                                                 purpose);
  bytes = static_cast<uint8_t *>(p);
  length = size;
  return {};
}

/// The program's own numbers: wrong ones mean a program and a runtime that do not belong together.
static Status checkProgram(const quern_program &p) {
  auto bad = [](const std::string &what) {
    return Status::error(QUERN_ERROR_FILE, "the program is not usable: " + what);
  };
  if (p.abi_version != QUERN_ABI_VERSION)
    return bad("ABI version " + std::to_string(p.abi_version) + ", this runtime has " +
               std::to_string(QUERN_ABI_VERSION));
  if (p.target_count == 0)
    return bad("it has no target");
  if (p.vocab_size < 1 || p.width < 1 || p.context < 1 || p.max_tokens < 1 || p.max_threads < 1)
    return bad("a size in its header is not positive");
  return {};
}

Status Engine::create(const EngineOptions &options, std::unique_ptr<Engine> &out) {
  const quern_program &p = *options.program;
  if (Status s = checkProgram(p); s.failed())
    return s;
  if (options.maxSequences < 1)
    return Status::error(QUERN_ERROR_ARGUMENT, "the number of sequences must be at least 1");
  std::unique_ptr<Engine> e(new Engine);
  e->prog = &p;
  if (Status s = chooseTarget(p, options.target, e->chosen); s.failed())
    return s;

  std::string path = options.payloadPath.empty() ? imagePath(&p) : options.payloadPath;
  if (Status s = Payload::open(path, options.weightsPath, e->data); s.failed())
    return s;
  if (options.hugePages)
    if (Status s = e->data.useHugePages(); s.failed())
      return s;
  std::span<const uint8_t> section = e->data.section(WeightSection);
  for (uint32_t i = 0; i < p.weight_count; ++i) {
    const quern_weight &w = p.weights[i];
    if (w.offset % 64 != 0 || w.offset > section.size() || w.size > section.size() - w.offset)
      return Status::error(QUERN_ERROR_FILE, e->data.weightsFile() + ": weight '" + w.name + "' (" +
                                                 std::to_string(w.size) + " bytes at " +
                                                 std::to_string(w.offset) +
                                                 ") lies outside the weights section of " +
                                                 std::to_string(section.size()) + " bytes");
    e->weights.push_back(section.data() + w.offset);
  }

  uint64_t cacheBytes;
  if (__builtin_mul_overflow(p.cache_bytes, uint64_t(options.maxSequences), &cacheBytes))
    return Status::error(QUERN_ERROR_MEMORY, "out of memory: the KV cache of " +
                                                 std::to_string(options.maxSequences) +
                                                 " sequences is too large");
  if (Status s = e->cache.allocate(cacheBytes, "the KV cache"); s.failed())
    return s;
  if (Status s = e->scratch.allocate(p.scratch_bytes, "scratch"); s.failed())
    return s;
  e->slots.resize(size_t(options.maxSequences));
  int threads = options.threads > 0 ? options.threads : defaultThreads();
  e->pool =
      std::make_unique<ThreadPool>(std::min(threads, int(p.max_threads)), options.pinThreads);
  if (!e->pool->started())
    return Status::error(QUERN_ERROR_MEMORY,
                         "cannot start " + std::to_string(threads) + " threads");
  out = std::move(e);
  return {};
}

Status Engine::checkSequence(int32_t sequence) const {
  if (sequence < 0 || size_t(sequence) >= slots.size() || !slots[size_t(sequence)].used)
    return Status::error(QUERN_ERROR_SEQUENCE, "no sequence " + std::to_string(sequence));
  return {};
}

Status Engine::checkTokens(std::span<const int32_t> tokens) const {
  for (int32_t t : tokens)
    if (t < 0 || t >= prog->vocab_size)
      return Status::error(QUERN_ERROR_ARGUMENT, "token " + std::to_string(t) +
                                                     " is not in the vocabulary of " +
                                                     std::to_string(prog->vocab_size));
  return {};
}

Status Engine::checkRoom(int32_t sequence, size_t count) const {
  int32_t held = slots[size_t(sequence)].length;
  if (count > size_t(prog->context - held))
    return Status::error(QUERN_ERROR_CONTEXT,
                         "context overflow: the sequence holds " + std::to_string(held) +
                             " tokens and " + std::to_string(count) +
                             " more were given, but the context has room for " +
                             std::to_string(prog->context));
  return {};
}

Status Engine::newSequence(int32_t &sequence) {
  for (size_t i = 0; i < slots.size(); ++i)
    if (!slots[i].used) {
      slots[i] = {true, 0};
      sequence = int32_t(i);
      return {};
    }
  return Status::error(QUERN_ERROR_SEQUENCE,
                       "all " + std::to_string(slots.size()) + " sequence slots are in use");
}

Status Engine::freeSequence(int32_t sequence) {
  if (Status s = checkSequence(sequence); s.failed())
    return s;
  slots[size_t(sequence)] = {};
  return {};
}

int32_t Engine::length(int32_t sequence) const {
  return checkSequence(sequence).ok() ? slots[size_t(sequence)].length : -1;
}

Status Engine::rollback(int32_t sequence, int32_t length) {
  if (Status s = checkSequence(sequence); s.failed())
    return s;
  Slot &slot = slots[size_t(sequence)];
  if (length < 0 || length > slot.length)
    return Status::error(QUERN_ERROR_ARGUMENT, "cannot roll back to " + std::to_string(length) +
                                                   " tokens: the sequence holds " +
                                                   std::to_string(slot.length));
  slot.length = length; // what lies behind is overwritten before it is read
  return {};
}

Status Engine::ensureRows(size_t rows, Output kind) {
  auto &buffer = kind == Output::Logits ? logits : embeddings;
  uint64_t width = uint64_t(kind == Output::Logits ? prog->vocab_size : prog->width);
  uint64_t bytes = rows * width * sizeof(float);
  if (buffer && buffer->size() >= bytes)
    return {};
  buffer = std::make_unique<Memory>();
  return buffer->allocate(bytes, kind == Output::Logits ? "logits" : "embeddings");
}

Status Engine::replaceWeight(std::string_view name, const uint8_t *bytes, uint64_t size) {
  for (uint32_t i = 0; i < prog->weight_count; ++i) {
    const quern_weight &w = prog->weights[i];
    if (name != w.name)
      continue;
    if (bytes && (size != w.size || reinterpret_cast<uintptr_t>(bytes) % 64 != 0))
      return Status::error(QUERN_ERROR_ARGUMENT,
                           "weight '" + std::string(name) + "' takes " + std::to_string(w.size) +
                               " bytes aligned to 64; " + std::to_string(size) + " were given");
    weights[i] = bytes ? bytes : data.section(WeightSection).data() + w.offset;
    return {};
  }
  return Status::error(QUERN_ERROR_ARGUMENT,
                       "the program has no weight '" + std::string(name) + "'");
}

void Engine::runStep(quern_step &step) {
  step.weights = weights.data();
  step.cache = cache.data();
  step.scratch = scratch.data();
  step.barrier = &pool->barrier();
  step.observe = observer;
  step.observe_context = observerContext;
  step.boundary = boundary;
  step.boundary_context = boundaryContext;
  struct Call {
    quern_forward forward;
    const quern_step *step;
  } call{chosen->forward, &step};
  pool->run(
      [](void *context, int thread, int threads) {
        auto *c = static_cast<Call *>(context);
        c->forward(c->step, thread, threads);
      },
      &call);
}

Status Engine::append(int32_t sequence, std::span<const int32_t> tokens, size_t firstOutput,
                      Output kind, const RowCallback &callback) {
  if (Status s = checkSequence(sequence); s.failed())
    return s;
  if (Status s = checkTokens(tokens); s.failed())
    return s;
  if (Status s = checkRoom(sequence, tokens.size()); s.failed())
    return s;
  Slot &slot = slots[size_t(sequence)];
  for (size_t begin = 0; begin < tokens.size();) {
    size_t count = std::min(tokens.size() - begin, size_t(prog->max_tokens));
    positions.clear();
    outputs.clear();
    for (size_t i = 0; i < count; ++i) {
      positions.push_back(slot.length + int32_t(i));
      if (begin + i >= firstOutput)
        outputs.push_back(int32_t(i));
    }
    sequenceIds.assign(count, sequence);
    // Generated code always writes logits of the outputs; hidden states only on request.
    if (Status s = ensureRows(outputs.size(), Output::Logits); s.failed())
      return s;
    if (kind == Output::Embeddings)
      if (Status s = ensureRows(outputs.size(), kind); s.failed())
        return s;
    quern_step step = {};
    step.token_count = int32_t(count);
    step.output_count = int32_t(outputs.size());
    step.tokens = tokens.data() + begin;
    step.positions = positions.data();
    step.sequences = sequenceIds.data();
    step.outputs = outputs.data();
    step.logits = logits ? reinterpret_cast<float *>(logits->data()) : nullptr;
    if (kind == Output::Embeddings)
      step.embeddings = reinterpret_cast<float *>(embeddings->data());
    runStep(step);
    slot.length += int32_t(count);
    size_t width = size_t(kind == Output::Logits ? prog->vocab_size : prog->width);
    float *rows = kind == Output::Logits ? step.logits : step.embeddings;
    for (size_t i = 0; i < outputs.size(); ++i) {
      float *row = rows + i * width;
      size_t index = size_t(outputs[i]);
      if (kind == Output::Logits && logitsHook)
        logitsHook(sequence, positions[index], row);
      if (callback)
        callback(begin + index, row);
    }
    begin += count;
  }
  return {};
}

Status Engine::prefill(int32_t sequence, std::span<const int32_t> tokens, size_t firstOutput,
                       const RowCallback &callback) {
  return append(sequence, tokens, firstOutput, Output::Logits, callback);
}

Status Engine::embed(int32_t sequence, std::span<const int32_t> tokens, size_t firstOutput,
                     const RowCallback &callback) {
  return append(sequence, tokens, firstOutput, Output::Embeddings, callback);
}

Status Engine::decode(std::span<const int32_t> sequences, std::span<const int32_t> tokens,
                      const RowCallback &callback) {
  if (Status s = checkTokens(tokens); s.failed())
    return s;
  std::vector<bool> seen(slots.size());
  for (int32_t sequence : sequences) {
    if (Status s = checkSequence(sequence); s.failed())
      return s;
    if (seen[size_t(sequence)])
      return Status::error(QUERN_ERROR_ARGUMENT,
                           "sequence " + std::to_string(sequence) + " occurs twice in one step");
    seen[size_t(sequence)] = true;
    if (Status s = checkRoom(sequence, 1); s.failed())
      return s;
  }
  for (size_t begin = 0; begin < tokens.size();) {
    size_t count = std::min(tokens.size() - begin, size_t(prog->max_tokens));
    positions.clear();
    outputs.clear();
    for (size_t i = 0; i < count; ++i) {
      positions.push_back(slots[size_t(sequences[begin + i])].length);
      outputs.push_back(int32_t(i));
    }
    if (Status s = ensureRows(count, Output::Logits); s.failed())
      return s;
    quern_step step = {};
    step.token_count = step.output_count = int32_t(count);
    step.tokens = tokens.data() + begin;
    step.positions = positions.data();
    step.sequences = sequences.data() + begin;
    step.outputs = outputs.data();
    step.logits = reinterpret_cast<float *>(logits->data());
    runStep(step);
    for (size_t i = 0; i < count; ++i) {
      int32_t sequence = sequences[begin + i];
      ++slots[size_t(sequence)].length;
      float *row = step.logits + i * size_t(prog->vocab_size);
      if (logitsHook)
        logitsHook(sequence, positions[i], row);
      if (callback)
        callback(begin + i, row);
    }
    begin += count;
  }
  return {};
}

namespace {
/// A saved state: this header, then runs of (page index, 4096 bytes) for pages with content.
struct StateHeader {
  char magic[8];
  uint64_t weightsHash; ///< the weights that made it
  uint64_t cacheBytes;
  int32_t length;
  uint32_t pages;
};
constexpr char stateMagic[8] = {'Q', 'U', 'E', 'R', 'N', 'K', 'V', '1'};
constexpr uint64_t statePage = 4096;
} // namespace

Status Engine::save(int32_t sequence, std::vector<uint8_t> &out) const {
  if (Status s = checkSequence(sequence); s.failed())
    return s;
  out.clear();
  const Slot &slot = slots[size_t(sequence)];
  StateHeader header = {};
  std::memcpy(header.magic, stateMagic, sizeof stateMagic);
  header.weightsHash = data.weightsHash();
  header.cacheBytes = prog->cache_bytes;
  header.length = slot.length;
  out.resize(sizeof header);
  static const uint8_t zeros[statePage] = {};
  const uint8_t *base = cache.data() + uint64_t(sequence) * prog->cache_bytes;
  for (uint64_t at = 0; slot.length && at < prog->cache_bytes; at += statePage) {
    uint64_t size = std::min(statePage, prog->cache_bytes - at);
    if (std::memcmp(base + at, zeros, size) == 0)
      continue;
    uint64_t index = at / statePage;
    size_t offset = out.size();
    out.resize(offset + sizeof index + statePage);
    std::memcpy(out.data() + offset, &index, sizeof index);
    std::memcpy(out.data() + offset + sizeof index, base + at, size);
    ++header.pages;
  }
  std::memcpy(out.data(), &header, sizeof header);
  return {};
}

Status Engine::restore(int32_t sequence, std::span<const uint8_t> state) {
  if (Status s = checkSequence(sequence); s.failed())
    return s;
  auto bad = [](const char *what) {
    return Status::error(QUERN_ERROR_STATE, std::string("the saved state ") + what);
  };
  StateHeader header;
  if (state.size() < sizeof header)
    return bad("is too short");
  std::memcpy(&header, state.data(), sizeof header);
  if (std::memcmp(header.magic, stateMagic, sizeof stateMagic) != 0)
    return bad("is not one");
  if (header.weightsHash != data.weightsHash() || header.cacheBytes != prog->cache_bytes)
    return bad("belongs to another program");
  constexpr uint64_t entry = sizeof(uint64_t) + statePage;
  if (header.length < 0 || header.length > prog->context ||
      state.size() != sizeof header + header.pages * entry)
    return bad("is damaged: its size does not match its header");
  const uint8_t *p = state.data() + sizeof header;
  uint64_t last = (prog->cache_bytes + statePage - 1) / statePage;
  for (uint32_t i = 0; i < header.pages; ++i) { // check all before changing anything
    uint64_t index;
    std::memcpy(&index, p + i * entry, sizeof index);
    if (index >= last)
      return bad("is damaged: a page lies outside the cache");
  }
  uint8_t *base = cache.data() + uint64_t(sequence) * prog->cache_bytes;
  std::memset(base, 0, prog->cache_bytes);
  for (uint32_t i = 0; i < header.pages; ++i) {
    uint64_t index;
    std::memcpy(&index, p + i * entry, sizeof index);
    std::memcpy(base + index * statePage, p + i * entry + sizeof index,
                std::min(statePage, prog->cache_bytes - index * statePage));
  }
  slots[size_t(sequence)].length = header.length;
  return {};
}

} // namespace quern::runtime
