//===- Evaluate.h - How far a model is from another -------------*- C++ -*-===//
//
// Perplexity, and the divergence KL(A || B) in nats of B's predictions from A's, over the
// windows of a text: each window a sequence of its own, every token but its first scored from
// those before it.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_QUANTIZE_EVALUATE_H
#define QUERN_QUANTIZE_EVALUATE_H

#include "quern/Quantize/Calibrate.h"
#include "quern/Quantize/Program.h"

namespace quern::quantize {

/// The predictions of a model at all scored positions of some windows.
class Baseline {
public:
  /// Runs the windows and keeps what they predict: windows x (window - 1) x vocabulary floats.
  static llvm::Expected<Baseline> create(Predictor &program, const Windows &windows);

  const Windows &windows() const { return *text; }
  /// Log-probabilities of window `i`, [window - 1][vocabulary].
  llvm::ArrayRef<float> at(size_t i) const {
    size_t size = size_t(text->window - 1) * vocabulary;
    return llvm::ArrayRef(logProbabilities).slice(i * size, size);
  }

private:
  const Windows *text = nullptr;
  size_t vocabulary = 0;
  std::vector<float> logProbabilities;
};

/// Sums over scored positions.
struct Divergence {
  std::vector<double> kl;        ///< by position, window after window
  std::vector<double> windowKl;  ///< mean of each window
  /// By window: sums of -log p(next token) of B and of A.
  std::vector<double> windowLoss, windowBaseLoss;
  double loss = 0, baseLoss = 0; ///< sums of -log p(next token)
  double changeSquared = 0;      ///< sum of (p_B(next) - p_A(next))^2
  uint64_t agree = 0;            ///< positions where both predict the same token

  double mean() const;
  /// The value below which a share `share` of the positions lies.
  double percentile(double share) const;
  double perplexity() const;
  double basePerplexity() const;
  /// Root of the mean squared change of the probability of the token that followed.
  double rmsChange() const;
  double agreement() const;
  /// Half the width of the 95 % interval of the mean, from resampling windows.
  double interval() const;
  /// B's perplexity over A's, and its 95 % interval when windows are drawn again, both at once.
  struct Ratio {
    double value = 1, low = 1, high = 1;
  };
  Ratio perplexityRatio() const;
  /// Mean KL at each scored position of a window.
  std::vector<double> byPosition() const;
  llvm::json::Object report() const;
};

/// Runs `program` over the baseline's windows.
llvm::Expected<Divergence> measure(Predictor &program, const Baseline &baseline);

/// The same window by window with both models side by side, which needs no memory.
llvm::Expected<Divergence> measure(Predictor &a, Predictor &b, const Windows &windows,
                                   llvm::function_ref<bool(double)> progress);

/// One position: adds KL(a || b) and the rest. `logA`: log-probabilities; `b`: logits.
void scorePosition(llvm::ArrayRef<float> logA, llvm::ArrayRef<float> b, int32_t next,
                   Divergence &out);
/// In place: logits to log-probabilities.
void logSoftmax(llvm::MutableArrayRef<float> row);

} // namespace quern::quantize

#endif // QUERN_QUANTIZE_EVALUATE_H
