//===- Engine.h - Runs a compiled program -----------------------*- C++ -*-===//
//
// Owns what generated code works on (mapped weights, KV cache, scratch, threads) and
// turns sequences of tokens into steps. No model arithmetic happens here.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_RUNTIME_ENGINE_H
#define QUERN_RUNTIME_ENGINE_H

#include "quern/Runtime/Payload.h"
#include "quern/Runtime/Program.h"
#include "quern/Runtime/Status.h"
#include "quern/Runtime/ThreadPool.h"
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace quern::runtime {

struct EngineOptions {
  const quern_program *program = nullptr;
  std::string payloadPath; ///< empty: the image that holds `program`
  std::string weightsPath; ///< where weights beside lie; empty: the payload's path + ".weights"
  std::string target;      ///< empty: the best the CPU runs
  int threads = 0;         ///< 0: one for each physical core allowed
  int maxSequences = 1;
  bool hugePages = false;
  bool pinThreads = true;
};

/// Anonymous memory, zero until touched, aligned to pages.
class Memory {
public:
  Memory() = default;
  Memory(const Memory &) = delete;
  ~Memory();
  Status allocate(uint64_t bytes, const char *purpose);
  uint8_t *data() const { return bytes; }
  uint64_t size() const { return length; }

private:
  uint8_t *bytes = nullptr;
  uint64_t length = 0;
};

class Engine {
public:
  static Status create(const EngineOptions &options, std::unique_ptr<Engine> &out);

  const quern_program &program() const { return *prog; }
  const quern_target &target() const { return *chosen; }
  const Payload &payload() const { return data; }
  ThreadPool &threads() { return *pool; }
  int maxSequences() const { return int(slots.size()); }

  Status newSequence(int32_t &sequence);
  Status freeSequence(int32_t sequence);
  /// Tokens held, or -1.
  int32_t length(int32_t sequence) const;
  Status rollback(int32_t sequence, int32_t length);

  /// Called with the index of a token (of the call's tokens) and the row predicted after it.
  using RowCallback = std::function<void(size_t index, float *row)>;

  /// Appends tokens in chunks of at most program.max_tokens. Logits of the tokens from
  /// `firstOutput` on are handed to `callback`, in order.
  Status prefill(int32_t sequence, std::span<const int32_t> tokens, size_t firstOutput,
                 const RowCallback &callback);

  /// Appends one token to each of several sequences; all of them, or none on failure.
  Status decode(std::span<const int32_t> sequences, std::span<const int32_t> tokens,
                const RowCallback &callback);

  /// Appends tokens; calls back with the final hidden state (program.width floats) of each
  /// from `firstOutput` on.
  Status embed(int32_t sequence, std::span<const int32_t> tokens, size_t firstOutput,
               const RowCallback &callback);

  /// State of a sequence as bytes: a header and the cache's pages that are not all zero.
  Status save(int32_t sequence, std::vector<uint8_t> &out) const;
  Status restore(int32_t sequence, std::span<const uint8_t> state);

  /// Called by programs with observers, on every thread; see Program.h.
  quern_observer observer = nullptr;
  void *observerContext = nullptr;
  /// The same of programs with boundaries.
  quern_boundary boundary = nullptr;
  void *boundaryContext = nullptr;

  /// Puts other data in the place of a weight: exactly as many bytes, packed in the same way, which
  /// must outlive the engine. Null: the program's own again.
  Status replaceWeight(std::string_view name, const uint8_t *data, uint64_t size);

  /// Sees and may change every row of logits first.
  std::function<void(int32_t sequence, int32_t position, float *row)> logitsHook;

private:
  Engine() = default;
  enum class Output { Logits, Embeddings };
  Status append(int32_t sequence, std::span<const int32_t> tokens, size_t firstOutput, Output kind,
                const RowCallback &callback);
  Status checkSequence(int32_t sequence) const;
  Status checkTokens(std::span<const int32_t> tokens) const;
  Status checkRoom(int32_t sequence, size_t count) const;
  Status ensureRows(size_t rows, Output kind);
  void runStep(quern_step &step);

  const quern_program *prog = nullptr;
  const quern_target *chosen = nullptr;
  Payload data;
  std::vector<const uint8_t *> weights;
  Memory cache, scratch;
  std::unique_ptr<ThreadPool> pool;
  struct Slot {
    bool used = false;
    int32_t length = 0;
  };
  std::vector<Slot> slots;
  std::vector<int32_t> positions, sequenceIds, outputs; ///< of the current step
  std::unique_ptr<Memory> logits, embeddings;           ///< grown to the rows asked for
};

} // namespace quern::runtime

#endif // QUERN_RUNTIME_ENGINE_H
