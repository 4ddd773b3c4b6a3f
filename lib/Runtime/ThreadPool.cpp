//===- ThreadPool.cpp - Spin-then-park workers and the SPMD barrier -------===//
//
// All hand-over goes through SpinFutex: sequentially consistent on the word and its
// sleeper count, so that a waker never misses a thread about to sleep.
//
//===----------------------------------------------------------------------===//
#include "quern/Runtime/ThreadPool.h"
#include "quern/Runtime/Cpu.h"
#include "quern/Runtime/Program.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace quern::runtime {

static void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

void SpinFutex::store(uint32_t next) {
  value.store(next); // seq_cst: ordered before reading `sleepers`
  if (sleepers.load() != 0)
    syscall(SYS_futex, &value, FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr, nullptr, 0);
}

void SpinFutex::waitWhile(uint32_t old, unsigned spins) {
  for (unsigned i = 0; i < spins; ++i) {
    if (value.load(std::memory_order_acquire) != old)
      return;
    relax();
  }
  sleepers.fetch_add(1);
  while (value.load() == old)
    syscall(SYS_futex, &value, FUTEX_WAIT_PRIVATE, old, nullptr, nullptr, 0);
  sleepers.fetch_sub(1);
}

void Barrier::wait(uint32_t threads) {
  if (threads <= 1)
    return;
  uint32_t sense = phase.load();
  if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
    arrived.store(0, std::memory_order_relaxed); // nobody arrives before the phase changes
    phase.store(sense + 1);
  } else {
    phase.waitWhile(sense, spins);
  }
}

void pinThread(int cpu) {
  if (cpu < 0 || cpu >= CPU_SETSIZE)
    return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

/// Spinning only pays while every thread has a core of its own.
static unsigned chooseSpins(int threads, size_t cores) {
  return size_t(threads) <= cores ? 2000 : 0;
}

// pthreads, because std::thread says that there is no thread by an exception, and programs have none.
ThreadPool::ThreadPool(int threads, bool pin)
    : threadCount(threads < 1 ? 1 : threads) {
  std::vector<int> cores = physicalCores();
  spins = chooseSpins(threadCount, cores.size());
  stepBarrier.setSpins(spins);
  workers.reserve(size_t(threadCount) - 1); // threads hold pointers into it
  for (int i = 1; i < threadCount; ++i) {
    workers.push_back({this, i, pin ? cores[size_t(i) % cores.size()] : -1, {}});
    if (pthread_create(&workers.back().thread, nullptr, begin, &workers.back()) != 0) {
      workers.pop_back();
      return;
    }
  }
}

ThreadPool::~ThreadPool() {
  stopping = true;
  generation.store(generation.load() + 1);
  for (Worker &w : workers)
    pthread_join(w.thread, nullptr);
}

void *ThreadPool::begin(void *worker) {
  auto &w = *static_cast<Worker *>(worker);
  if (w.cpu >= 0)
    pinThread(w.cpu);
  w.pool->work(w.index);
  return nullptr;
}

void ThreadPool::work(int thread) {
  for (uint32_t seen = 0;; ++seen) {
    generation.waitWhile(seen, spins);
    if (stopping)
      return;
    function(context, thread, threadCount);
    if (running.fetch_sub(1, std::memory_order_acq_rel) == 1)
      done.store(seen + 1);
  }
}

void ThreadPool::run(Function fn, void *ctx) {
  if (threadCount == 1) {
    fn(ctx, 0, 1);
    return;
  }
  function = fn;
  context = ctx;
  running.store(threadCount - 1, std::memory_order_relaxed);
  uint32_t current = generation.load();
  generation.store(current + 1);
  fn(ctx, 0, threadCount);
  done.waitWhile(current, spins); // the last worker sets it to current + 1
}

} // namespace quern::runtime

extern "C" void quern_barrier(void *barrier, int32_t, int32_t threads) {
  static_cast<quern::runtime::Barrier *>(barrier)->wait(uint32_t(threads));
}
