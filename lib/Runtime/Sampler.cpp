//===- Sampler.cpp - Choosing the next token ------------------------------===//
//
// Double precision and a fixed order throughout, so that a seed means the same
// text everywhere.
//
//===----------------------------------------------------------------------===//
#include "quern/Runtime/Sampler.h"
#include <algorithm>
#include <cmath>
#include <cstring>

namespace quern::runtime {

std::string SamplerOptions::check() const {
  if (!(temperature >= 0 && temperature <= 1000))
    return "--temperature must lie between 0 and 1000";
  if (topK < 0)
    return "--top-k must not be negative";
  if (!(topP > 0 && topP <= 1))
    return "--top-p must be above 0 and at most 1";
  if (!(minP >= 0 && minP <= 1))
    return "--min-p must lie between 0 and 1";
  if (!(repeatPenalty > 0 && repeatPenalty <= 1000))
    return "--repeat-penalty must be above 0 and at most 1000";
  if (repeatLast < -1)
    return "--repeat-last must be -1 or more";
  return "";
}

double portableExp(double x) {
  if (!(x > -700))
    return 0;
  if (x > 0)
    x = 0;
  // x = k ln 2 + r with |r| <= ln 2 / 2; the series to r^13 is exact to a rounding or two.
  double k = std::floor(x * 1.4426950408889634 + 0.5);
  double r = (x - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10;
  double sum = 1;
  for (int i = 13; i > 0; --i)
    sum = 1 + r * sum / i;
  uint64_t bits = static_cast<uint64_t>(static_cast<int64_t>(k) + 1023) << 52;
  double scale;
  memcpy(&scale, &bits, sizeof scale);
  return sum * scale;
}

Sampler::Sampler(const SamplerOptions &options) : options(options), state(options.seed) {}

/// SplitMix64: one addition and three mixing steps per number.
double Sampler::uniform() {
  uint64_t z = state += 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1p-53;
}

namespace {
/// The likelier first, of equals the lower id.
const auto likelier = [](const auto &a, const auto &b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
};
} // namespace

/// How many of the candidates, which `total` adds up, survive top-p and min-p. Sorts no more of
/// them than it has to.
size_t Sampler::cut(double total) {
  size_t sorted = 0, count = candidates.size();
  double sum = 0;
  for (size_t i = 0; i < count; ++i) {
    if (i == sorted) {
      size_t next = std::min(count, std::max<size_t>(256, sorted * 8));
      std::partial_sort(candidates.begin() + sorted, candidates.begin() + next, candidates.end(),
                        likelier);
      sorted = next;
    }
    // The likeliest token always stays.
    if (i > 0 && candidates[i].weight < options.minP)
      return i;
    sum += candidates[i].weight;
    if (options.topP < 1 && sum >= double(options.topP) * total)
      return i + 1;
  }
  return count;
}

int32_t Sampler::sample(std::span<const float> logits, std::span<const int32_t> history) {
  candidates.clear();
  for (size_t i = 0; i < logits.size(); ++i)
    candidates.push_back(
        {std::isnan(logits[i]) ? -HUGE_VAL : double(logits[i]), static_cast<int32_t>(i), 0});
  if (options.repeatPenalty != 1) {
    size_t last = options.repeatLast < 0 ? history.size() : size_t(options.repeatLast);
    std::span<const int32_t> recent = history.last(std::min(last, history.size()));
    std::vector<int32_t> once(recent.begin(), recent.end());
    std::sort(once.begin(), once.end());
    once.erase(std::unique(once.begin(), once.end()), once.end());
    for (int32_t id : once)
      if (id >= 0 && size_t(id) < candidates.size()) {
        double &l = candidates[id].logit;
        l = l > 0 ? l / options.repeatPenalty : l * options.repeatPenalty;
      }
  }
  if (candidates.empty())
    return -1;
  const Candidate best = *std::min_element(candidates.begin(), candidates.end(), likelier);
  if (best.logit == -HUGE_VAL)
    return -1;
  if (options.temperature == 0 || best.logit == HUGE_VAL)
    return best.id;

  size_t k = size_t(options.topK);
  if (k > 0 && k < candidates.size()) {
    std::nth_element(candidates.begin(), candidates.begin() + k, candidates.end(), likelier);
    candidates.resize(k);
    std::sort(candidates.begin(), candidates.end(), likelier);
  }
  double total = 0;
  for (Candidate &c : candidates) {
    c.weight = portableExp((c.logit - best.logit) / options.temperature);
    total += c.weight;
  }
  size_t kept = candidates.size();
  if (options.topP < 1 || options.minP > 0) {
    kept = cut(total);
    total = 0;
    for (size_t i = 0; i < kept; ++i)
      total += candidates[i].weight;
  }
  double at = uniform() * total;
  for (size_t i = 0; i < kept; ++i) {
    at -= candidates[i].weight;
    if (at < 0)
      return candidates[i].id;
  }
  return candidates[kept - 1].id;
}

StopMatcher::StopMatcher(std::vector<std::string> given) : stops(std::move(given)) {
  stops.erase(std::remove(stops.begin(), stops.end(), ""), stops.end());
}

std::string StopMatcher::push(std::string_view text) {
  if (found)
    return "";
  held += text;
  // The earliest stop string wins; what lies before it is shown.
  size_t first = std::string::npos;
  for (const std::string &s : stops)
    first = std::min(first, held.find(s));
  std::string out;
  if (first != std::string::npos) {
    found = true;
    out = held.substr(0, first);
    held.clear();
    return out;
  }
  size_t hold = 0;
  for (const std::string &s : stops)
    for (size_t n = std::min(s.size() - 1, held.size()); n > hold; --n)
      if (held.compare(held.size() - n, n, s, 0, n) == 0) {
        hold = n;
        break;
      }
  out = held.substr(0, held.size() - hold);
  held.erase(0, out.size());
  return out;
}

std::string StopMatcher::flush() {
  std::string out;
  out.swap(held);
  return out;
}

} // namespace quern::runtime
