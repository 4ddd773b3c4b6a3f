//===- Attention.cpp - The KV cache and attention over it -----------------===//
//
// Softmax with its maximum subtracted, in f64 throughout.
//
//===----------------------------------------------------------------------===//
#include "quern/Reference/Attention.h"
#include <algorithm>
#include <cassert>
#include <cmath>

using namespace quern::reference;

void quern::reference::roundToCache(CacheFormat format, std::span<float> x) {
  switch (format) {
  case CacheFormat::F32:
    return;
  case CacheFormat::F16:
    std::transform(x.begin(), x.end(), x.begin(), roundToF16);
    return;
  case CacheFormat::Q8_0:
    for (size_t begin = 0; begin < x.size(); begin += q8GroupSize) {
      std::span<float> group = x.subspan(begin, std::min<size_t>(q8GroupSize, x.size() - begin));
      std::vector<int8_t> codes(group.size());
      float scale = roundToF16(quantizeGroup(group, codes));
      for (size_t i = 0; i < group.size(); ++i)
        group[i] = scale * float(codes[i]);
    }
    return;
  case CacheFormat::Q4: {
    float absMax = groupAbsMax(x), inverse = 7.0f / absMax, scale = roundToF16(absMax / 7.0f);
    for (float &value : x) {
      float code = std::nearbyint(value * inverse);
      value = scale * (std::isfinite(code) ? code : 0.0f);
    }
    return;
  }
  }
}

KvCache::KvCache(CacheFormat format, int64_t sequences, int64_t context, int64_t kvHeads,
                 int64_t headDim)
    : format(format), sequences(sequences), context(context), kvHeads(kvHeads), headDim(headDim),
      keys(sequences), values(sequences) {}

void KvCache::store(int32_t sequence, int32_t position, std::span<const float> key,
                    std::span<const float> value) {
  size_t row = kvHeads * headDim, at = row * position;
  assert(sequence >= 0 && sequence < sequences && position >= 0 && position < context);
  assert(key.size() == row && value.size() == row);
  auto write = [&](std::vector<float> &store, std::span<const float> x) {
    if (store.size() < at + row)
      store.resize(at + row);
    std::copy(x.begin(), x.end(), store.begin() + at);
    for (int64_t head = 0; head < kvHeads; ++head)
      roundToCache(format, std::span(store).subspan(at + head * headDim, headDim));
  };
  write(keys[sequence], key);
  write(values[sequence], value);
}

std::span<const float> KvCache::find(const std::vector<std::vector<float>> &store, int32_t sequence,
                                     int32_t position, int64_t head) const {
  assert(sequence >= 0 && sequence < sequences && head >= 0 && head < kvHeads);
  size_t at = (position * kvHeads + head) * headDim;
  assert(position >= 0 && at + headDim <= store[sequence].size());
  return std::span(store[sequence]).subspan(at, headDim);
}

std::span<const float> KvCache::key(int32_t sequence, int32_t position, int64_t head) const {
  return find(keys, sequence, position, head);
}

std::span<const float> KvCache::value(int32_t sequence, int32_t position, int64_t head) const {
  return find(values, sequence, position, head);
}

/// One head of one token.
static void attend(std::span<const float> q, int32_t position, int32_t sequence, int64_t kvHead,
                   const AttentionShape &shape, const KvCache &cache, std::span<float> out) {
  int32_t first = shape.window ? std::max<int64_t>(0, position - shape.window + 1) : 0;
  std::vector<double> scores(position - first + 1);
  for (int32_t p = first; p <= position; ++p) {
    std::span<const float> key = cache.key(sequence, p, kvHead);
    double score = 0;
    for (size_t i = 0; i < q.size(); ++i)
      score += double(q[i]) * key[i];
    score *= shape.scale;
    scores[p - first] = shape.softcap ? shape.softcap * std::tanh(score / shape.softcap) : score;
  }
  double largest = *std::max_element(scores.begin(), scores.end()), total = 0;
  for (double &score : scores)
    total += score = std::exp(score - largest);
  std::vector<double> sum(out.size());
  for (int32_t p = first; p <= position; ++p) {
    std::span<const float> value = cache.value(sequence, p, kvHead);
    for (size_t i = 0; i < sum.size(); ++i)
      sum[i] += scores[p - first] / total * value[i];
  }
  std::transform(sum.begin(), sum.end(), out.begin(), [](double s) { return float(s); });
}

void quern::reference::attention(std::span<const float> q, std::span<const float> k,
                                 std::span<const float> v, std::span<const int32_t> positions,
                                 std::span<const int32_t> sequences, const AttentionShape &shape,
                                 KvCache &cache, std::span<float> out) {
  int64_t tokens = positions.size(), kvSize = shape.kvHeads * shape.headDim;
  assert(shape.heads % shape.kvHeads == 0 && sequences.size() == positions.size());
  assert(int64_t(q.size()) == tokens * shape.heads * shape.headDim && out.size() == q.size());
  assert(int64_t(k.size()) == tokens * kvSize && v.size() == k.size());
  for (int64_t t = 0; t < tokens; ++t)
    cache.store(sequences[t], positions[t], k.subspan(t * kvSize, kvSize),
                v.subspan(t * kvSize, kvSize));
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t head = 0; head < shape.heads; ++head) {
      int64_t at = (t * shape.heads + head) * shape.headDim;
      attend(q.subspan(at, shape.headDim), positions[t], sequences[t],
             head / (shape.heads / shape.kvHeads), shape, cache, out.subspan(at, shape.headDim));
    }
}
