// The pool runs a function on every thread, and the barrier keeps them in step.
#include "quern/Runtime/ThreadPool.h"
#include "quern/Runtime/Program.h"
#include <chrono>
#include <gtest/gtest.h>

using namespace quern::runtime;

namespace {
struct Relay {
  ThreadPool *pool;
  std::vector<int> values; // each thread writes its own, reads its neighbour's after a barrier
  std::atomic<int> wrong{0};
  int rounds;
};
void relay(void *context, int thread, int threads) {
  auto *r = static_cast<Relay *>(context);
  for (int round = 1; round <= r->rounds; ++round) {
    r->values[size_t(thread)] = round;
    quern_barrier(&r->pool->barrier(), thread, threads);
    if (r->values[size_t((thread + 1) % threads)] != round)
      r->wrong.fetch_add(1);
    quern_barrier(&r->pool->barrier(), thread, threads);
  }
}
} // namespace

TEST(ThreadPool, BarrierKeepsThreadsInStep) {
  for (int threads : {1, 2, 3, 8}) { // also more threads than cores
    ThreadPool pool(threads, threads == 2);
    Relay r{&pool, std::vector<int>(size_t(threads)), {}, 300};
    pool.run(relay, &r);
    pool.run(relay, &r);
    EXPECT_EQ(r.wrong.load(), 0) << threads;
    for (int v : r.values)
      EXPECT_EQ(v, 300);
  }
}

TEST(ThreadPool, RunsEveryThreadOnceEvenAfterParking) {
  ThreadPool pool(3, false);
  struct Count {
    std::atomic<int> calls[3] = {};
  } count;
  for (int i = 0; i < 50; ++i) {
    if (i % 10 == 0) // long enough for the workers to park
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    pool.run([](void *c, int thread, int) { ++static_cast<Count *>(c)->calls[thread]; }, &count);
  }
  for (auto &c : count.calls)
    EXPECT_EQ(c.load(), 50);
}
