// Sequences, chunks, batches, rollback, saved states and refused requests, on the toy program.
#include "quern/Runtime/Engine.h"
#include "Toy.h"
#include <cstring>
#include <gtest/gtest.h>

using namespace quern::runtime;

namespace {
struct EngineTest : testing::Test {
  std::unique_ptr<Engine> engine;
  quern_program program = toy::program();

  void load(int threads = 2, int sequences = 3, bool huge = false) {
    EngineOptions o;
    o.program = &program;
    o.payloadPath = toy::writePayload("toy.bin");
    o.threads = threads;
    o.maxSequences = sequences;
    o.hugePages = huge;
    Status s = Engine::create(o, engine);
    ASSERT_TRUE(s.ok()) << s.message;
  }
  int32_t sequence() {
    int32_t id = -1;
    EXPECT_TRUE(engine->newSequence(id).ok());
    return id;
  }
  std::vector<float> prefill(int32_t seq, const std::vector<int32_t> &tokens) {
    std::vector<float> last;
    Status s = engine->prefill(seq, tokens, tokens.size() - 1, [&](size_t, const float *row) {
      last.assign(row, row + toy::vocab);
    });
    EXPECT_TRUE(s.ok()) << s.message;
    return last;
  }
};
std::vector<int32_t> someTokens(int32_t count, int32_t seed) {
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < count; ++i)
    tokens.push_back((i * i * 5 + i * 3 + seed) % toy::vocab);
  return tokens;
}
} // namespace

TEST_F(EngineTest, PrefillInChunksGivesEveryRow) {
  for (int threads : {1, 3}) {
    load(threads);
    EXPECT_STREQ(engine->target().name, "any");      // the better one does not fit
    std::vector<int32_t> tokens = someTokens(21, 2); // 8 + 8 + 5
    int32_t seq = sequence();
    size_t rows = 0;
    ASSERT_TRUE(engine
                    ->prefill(seq, tokens, 3,
                              [&](size_t index, const float *row) {
                                EXPECT_EQ(index, rows + 3);
                                ++rows;
                                std::vector<int32_t> history(tokens.begin(),
                                                             tokens.begin() + long(index) + 1);
                                EXPECT_EQ(std::vector<float>(row, row + toy::vocab),
                                          toy::expectedLogits(history));
                              })
                    .ok());
    EXPECT_EQ(rows, 18u);
    EXPECT_EQ(engine->length(seq), 21);
  }
}

TEST_F(EngineTest, BatchedSequencesStayApart) {
  load(2, 3, /*huge=*/true);
  std::vector<std::vector<int32_t>> history = {someTokens(5, 1), someTokens(9, 4),
                                               someTokens(1, 7)};
  std::vector<int32_t> ids;
  for (auto &h : history) {
    ids.push_back(sequence());
    EXPECT_EQ(prefill(ids.back(), h), toy::expectedLogits(h));
  }
  for (int32_t step = 0; step < 4; ++step) {
    std::vector<int32_t> order = {ids[2], ids[0], ids[1]}, next = {step, step + 10, step + 20};
    history[2].push_back(next[0]);
    history[0].push_back(next[1]);
    history[1].push_back(next[2]);
    size_t which[] = {2, 0, 1};
    ASSERT_TRUE(engine
                    ->decode(order, next,
                             [&](size_t i, const float *row) {
                               EXPECT_EQ(std::vector<float>(row, row + toy::vocab),
                                         toy::expectedLogits(history[which[i]]));
                             })
                    .ok());
  }
  int32_t more;
  EXPECT_EQ(engine->newSequence(more).code, QUERN_ERROR_SEQUENCE);
  EXPECT_TRUE(engine->freeSequence(ids[1]).ok());
  EXPECT_TRUE(engine->newSequence(more).ok());
  EXPECT_EQ(more, ids[1]);
  EXPECT_EQ(prefill(more, history[0]), toy::expectedLogits(history[0]));
}

TEST_F(EngineTest, RollbackAndSavedStates) {
  load();
  int32_t a = sequence(), b = sequence();
  std::vector<int32_t> tokens = someTokens(12, 3);
  prefill(a, tokens);
  std::vector<uint8_t> state;
  ASSERT_TRUE(engine->save(a, state).ok());

  ASSERT_TRUE(engine->rollback(a, 6).ok());
  std::vector<int32_t> other(tokens.begin(), tokens.begin() + 6);
  other.push_back(30);
  EXPECT_EQ(prefill(a, {30}), toy::expectedLogits(other));
  EXPECT_EQ(engine->rollback(a, 8).code, QUERN_ERROR_ARGUMENT);

  ASSERT_TRUE(engine->restore(b, state).ok());
  EXPECT_EQ(engine->length(b), 12);
  tokens.push_back(5);
  EXPECT_EQ(prefill(b, {5}), toy::expectedLogits(tokens));

  EXPECT_EQ(engine->restore(b, std::span(state).first(10)).code, QUERN_ERROR_STATE);
  EXPECT_EQ(engine->restore(b, std::span(state).first(state.size() - 1)).code, QUERN_ERROR_STATE);
  std::vector<uint8_t> bad = state;
  bad[40 - 8] ^= 0xFF; // page count
  EXPECT_EQ(engine->restore(b, bad).code, QUERN_ERROR_STATE);
  EXPECT_EQ(engine->length(b), 13) << "a refused state changes nothing";
}

TEST_F(EngineTest, SavedStatesKeepPagesInTheirPlaces) {
  // Tokens on the first and the last page of four, the last one in part.
  static constexpr uint64_t cacheBytes = 3 * 4096 + 100;
  static const quern_target apart = {"any", "", [](const quern_step *s, int32_t thread, int32_t) {
                                       for (int32_t i = 0; thread == 0 && i < s->token_count; ++i)
                                         s->cache[uint64_t(s->sequences[i]) * cacheBytes +
                                                  (s->positions[i] ? cacheBytes - 1 : 0)] =
                                             uint8_t(s->tokens[i]);
                                     }};
  program.targets = &apart;
  program.target_count = 1;
  program.cache_bytes = cacheBytes;
  load();
  int32_t a = sequence(), b = sequence();
  ASSERT_TRUE(engine->prefill(a, std::vector<int32_t>{5, 6}, 2, nullptr).ok());
  ASSERT_TRUE(engine->prefill(b, std::vector<int32_t>{7}, 1, nullptr).ok());
  std::vector<uint8_t> state, again;
  ASSERT_TRUE(engine->save(a, state).ok());
  EXPECT_EQ(state.size(), 32 + 2 * (8 + 4096u));
  ASSERT_TRUE(engine->restore(b, state).ok());
  ASSERT_TRUE(engine->save(b, again).ok());
  EXPECT_EQ(again, state);
  // A page of the last one's number and one beyond.
  for (uint64_t index : {3, 4}) {
    std::vector<uint8_t> moved = state;
    std::memcpy(&moved[32], &index, sizeof index);
    EXPECT_EQ(engine->restore(b, moved).code, index < 4 ? QUERN_OK : QUERN_ERROR_STATE);
  }
}

TEST_F(EngineTest, HookMayChangeLogits) {
  load();
  int32_t seq = sequence();
  engine->logitsHook = [&](int32_t s, int32_t position, float *row) {
    EXPECT_EQ(s, seq);
    row[0] = float(position) + 1000;
  };
  EXPECT_EQ(prefill(seq, {1, 2, 3})[0], 1002);
}

TEST_F(EngineTest, EmbedsTheTokensAskedFor) {
  load();
  std::vector<float> seen;
  std::vector<int32_t> tokens = someTokens(10, 1);
  ASSERT_TRUE(engine
                  ->embed(sequence(), tokens, 9,
                          [&](size_t, const float *row) { seen.assign(row, row + toy::width); })
                  .ok());
  float base = float(tokens[9] * 10);
  EXPECT_EQ(seen, (std::vector<float>{base, base + 1, base + 2, base + 3}));
}

TEST_F(EngineTest, RefusesWhatDoesNotFit) {
  load();
  int32_t seq = sequence();
  EXPECT_EQ(engine->prefill(seq, std::vector<int32_t>{1, toy::vocab}, 0, nullptr).code,
            QUERN_ERROR_ARGUMENT);
  EXPECT_EQ(engine->prefill(seq, std::vector<int32_t>{-1}, 0, nullptr).code, QUERN_ERROR_ARGUMENT);
  Status s = engine->prefill(seq, someTokens(toy::context + 1, 0), 0, nullptr);
  EXPECT_EQ(s.code, QUERN_ERROR_CONTEXT);
  EXPECT_NE(s.message.find("room for 40"), std::string::npos) << s.message;
  EXPECT_EQ(engine->length(seq), 0) << "nothing was appended";
  EXPECT_EQ(engine->prefill(seq + 1, std::vector<int32_t>{1}, 0, nullptr).code,
            QUERN_ERROR_SEQUENCE);
  std::vector<int32_t> twice = {seq, seq}, tokens = {1, 2};
  EXPECT_EQ(engine->decode(twice, tokens, nullptr).code, QUERN_ERROR_ARGUMENT);
}

TEST_F(EngineTest, RefusesProgramsThatDoNotBelong) {
  EngineOptions o;
  o.program = &program;
  o.payloadPath = toy::writePayload("toy.bin");
  program.abi_version = 99;
  EXPECT_EQ(Engine::create(o, engine).code, QUERN_ERROR_FILE);
  program = toy::program();
  static const quern_weight outside[] = {{"outside", 64, uint64_t(1) << 40}};
  program.weights = outside;
  program.weight_count = 1;
  Status s = Engine::create(o, engine);
  EXPECT_EQ(s.code, QUERN_ERROR_FILE);
  EXPECT_NE(s.message.find("'outside'"), std::string::npos) << s.message;
  program = toy::program();
  program.cache_bytes = uint64_t(1) << 62;
  EXPECT_EQ(Engine::create(o, engine).code, QUERN_ERROR_MEMORY);
}
