//===- Attention.h - The KV cache and attention over it ---------*- C++ -*-===//
//
// Executable semantics of `quern.attention`: every token stores its key and value,
// then reads those of its own sequence at its own and earlier positions.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_REFERENCE_ATTENTION_H
#define QUERN_REFERENCE_ATTENTION_H

#include "quern/Reference/Activations.h"
#include <cstdint>
#include <span>
#include <vector>

namespace quern::reference {

/// How keys and values are kept. Rounding happens at the store; attention reads back what was
/// stored, that of the current token too.
enum class CacheFormat : uint8_t {
  F32,
  F16, ///< to nearest, ties to even; overflow gives infinity
  /// Groups of 32 along a head (the last may be smaller): codes as for q8 activations, their
  /// scale rounded to f16 after the codes are made.
  Q8_0,
  /// One scale a head: m = groupAbsMax(head), codes x * (7 / m) to the nearest integer, ties to
  /// even, in [-7, 7] (0 where that is not finite), scale m / 7, rounded to f16 after the codes are
  /// made.
  Q4,
};

/// Rounds `x`, one head's key or value, as the cache stores it.
void roundToCache(CacheFormat format, std::span<float> x);

/// One layer's keys and values, as rounded: for each sequence [context][kvHeads * headDim]. Memory
/// grows with the positions stored, not with the context.
class KvCache {
public:
  KvCache(CacheFormat format, int64_t sequences, int64_t context, int64_t kvHeads, int64_t headDim);

  void store(int32_t sequence, int32_t position, std::span<const float> key,
             std::span<const float> value);
  std::span<const float> key(int32_t sequence, int32_t position, int64_t head) const;
  std::span<const float> value(int32_t sequence, int32_t position, int64_t head) const;

  CacheFormat format;
  int64_t sequences, context, kvHeads, headDim;

private:
  std::span<const float> find(const std::vector<std::vector<float>> &store, int32_t sequence,
                              int32_t position, int64_t head) const;
  std::vector<std::vector<float>> keys, values; ///< by sequence
};

struct AttentionShape {
  int64_t heads = 1, kvHeads = 1, headDim = 0; ///< query head h reads kv head h / (heads/kvHeads)
  double scale = 1;                            ///< multiplies query . key
  int64_t window = 0; ///< a token reads the last `window` positions, its own included; 0: all
  double softcap = 0; ///< scores become softcap * tanh(score / softcap); 0: they do not
};

/// q and out are [tokens, heads * headDim], k and v [tokens, kvHeads * headDim]. Stores all keys
/// and values first, so the tokens of one call see each other (causally, by position).
void attention(std::span<const float> q, std::span<const float> k, std::span<const float> v,
               std::span<const int32_t> positions, std::span<const int32_t> sequences,
               const AttentionShape &shape, KvCache &cache, std::span<float> out);

} // namespace quern::reference

#endif // QUERN_REFERENCE_ATTENTION_H
