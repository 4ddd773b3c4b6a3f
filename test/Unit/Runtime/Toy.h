// A hand-written quern_program: enough of a language model to test everything around one.
// The logit of token v after position p is weight[v] + sum over i <= p of (i + 1) * (token_i + v) %
// 7, read from the cache, so that any mistake in positions, slots, rollback or restore shows.
#ifndef QUERN_TEST_TOY_H
#define QUERN_TEST_TOY_H

#include "quern/Runtime/Program.h"
#include <string>
#include <vector>

namespace toy {
constexpr int32_t vocab = 37, width = 4, context = 40, maxTokens = 8;
quern_program program();
/// Writes a payload file with the toy's weights; `damage` changes one byte at that offset from the
/// end (0: none).
std::string writePayload(const std::string &name, size_t damageFromEnd = 0);
/// What the toy must answer after `history`.
std::vector<float> expectedLogits(const std::vector<int32_t> &history);
std::string directory();
} // namespace toy

#endif
