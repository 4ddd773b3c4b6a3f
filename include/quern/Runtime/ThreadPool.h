//===- ThreadPool.h - Threads that run one function together ----*- C++ -*-===//
//
// SPMD: run() has every thread, the caller among them, execute the same function.
// Workers spin for a short while between runs, then park on a futex, so that a step
// starts in under a microsecond and an idle program costs nothing.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_RUNTIME_THREADPOOL_H
#define QUERN_RUNTIME_THREADPOOL_H

#include <atomic>
#include <cstdint>
#include <pthread.h>
#include <vector>

namespace quern::runtime {

/// A word that threads wait on: spin, then futex.
class SpinFutex {
public:
  uint32_t load() const { return value.load(std::memory_order_acquire); }
  /// Sets the word and wakes whoever sleeps on it.
  void store(uint32_t next);
  /// Returns once the word differs from `old`.
  void waitWhile(uint32_t old, unsigned spins);

private:
  std::atomic<uint32_t> value{0};
  std::atomic<uint32_t> sleepers{0};
};

/// Sense-reversing barrier; quern_barrier() of Program.h takes a pointer to one. The phase
/// counter is the sense: it flips with every crossing, so the barrier is reusable at once.
class Barrier {
public:
  explicit Barrier(unsigned spins = 2000) : spins(spins) {}
  void wait(uint32_t threads);
  void setSpins(unsigned count) { spins = count; } ///< before threads use it

private:
  alignas(64) std::atomic<uint32_t> arrived{0};
  alignas(64) SpinFutex phase;
  unsigned spins;
};

class ThreadPool {
public:
  using Function = void (*)(void *context, int thread, int threads);

  /// `threads` >= 1, the caller counted. `pin`: worker i stays on the i-th physical core
  /// allowed (never the caller's thread, which is not ours).
  ThreadPool(int threads, bool pin);
  ~ThreadPool();
  ThreadPool(const ThreadPool &) = delete;

  /// Whether the system gave all the threads; a pool it did not give them to runs nothing.
  bool started() const { return int(workers.size()) == threadCount - 1; }
  int size() const { return threadCount; }
  /// Runs function(context, i, size()) on all threads; returns when all are done.
  void run(Function function, void *context);
  Barrier &barrier() { return stepBarrier; }

private:
  /// What a new thread is told; the pool keeps these, because threads begin late.
  struct Worker {
    ThreadPool *pool;
    int index, cpu; ///< -1: not pinned
    pthread_t thread;
  };
  static void *begin(void *worker);
  void work(int thread);

  int threadCount;
  unsigned spins = 0;
  Function function = nullptr;
  void *context = nullptr;
  bool stopping = false;
  alignas(64) SpinFutex generation;
  alignas(64) std::atomic<int> running{0};
  alignas(64) SpinFutex done;
  Barrier stepBarrier;
  std::vector<Worker> workers;
};

/// Pins the calling thread to one CPU; failure is harmless and ignored.
void pinThread(int cpu);

} // namespace quern::runtime

#endif // QUERN_RUNTIME_THREADPOOL_H
