//===- Sampler.h - Choosing the next token ----------------------*- C++ -*-===//
//
// Sampling from logits, the same on every machine for the same seed, and stop
// strings that may lie across tokens.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_RUNTIME_SAMPLER_H
#define QUERN_RUNTIME_SAMPLER_H

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace quern::runtime {

/// Applied in this order: repeat penalty, temperature, top-k, top-p, min-p.
struct SamplerOptions {
  float temperature = 0; ///< 0: always the likeliest token (the lowest id of several)
  int32_t topK = 0;      ///< keep the k likeliest; 0: all
  float topP = 1;        ///< keep the likeliest until their probabilities add up to this; 1: all
  float minP = 0;        ///< keep what is at least this times as likely as the likeliest
  float repeatPenalty =
      1; ///< positive logits of recent tokens are divided by it, others multiplied
  int32_t repeatLast = 64; ///< how many tokens back are recent; -1: all
  uint64_t seed = 0;

  /// Empty, or which option is out of range.
  std::string check() const;
};

class Sampler {
public:
  explicit Sampler(const SamplerOptions &options);
  /// The next token given its logits and the tokens so far, newest last; -1 if no logit is a finite
  /// number. Logits that are NaN are never chosen.
  int32_t sample(std::span<const float> logits, std::span<const int32_t> history);
  /// Uniform in [0, 1), from the seed alone.
  double uniform();

private:
  struct Candidate {
    double logit;
    int32_t id;
    double weight; ///< exp(logit - largest)
  };
  SamplerOptions options;
  uint64_t state;
  std::vector<Candidate> candidates;

  size_t cut(double total);
};

/// exp for x <= 0, of basic operations in a fixed order: the same bits with any C library.
double portableExp(double x);

/// Finds stop strings in streamed text, holding back what could be the beginning of one.
class StopMatcher {
public:
  explicit StopMatcher(std::vector<std::string> stops);
  /// Takes more text; returns what can be shown. After a stop string, nothing.
  std::string push(std::string_view text);
  /// What was held back, at the end.
  std::string flush();
  bool stopped() const { return found; }

private:
  std::vector<std::string> stops;
  std::string held;
  bool found = false;
};

} // namespace quern::runtime

#endif // QUERN_RUNTIME_SAMPLER_H
