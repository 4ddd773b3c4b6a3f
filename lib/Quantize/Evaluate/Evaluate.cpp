//===- Evaluate.cpp - How far a model is from another ---------------------===//
//
// See Evaluate.h. All sums are made in f64 and in a fixed order.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Evaluate.h"
#include "Softmax.h"
#include "llvm/Support/ThreadPool.h"
#include <cmath>
#include <random>

using namespace quern::quantize;
using llvm::ArrayRef;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

static double logSumExpOf(ArrayRef<float> row) {
  int64_t n = int64_t(row.size());
  return logSumExp(row.data(), maximum(row.data(), n), n);
}

/// The first of the largest.
static size_t best(ArrayRef<float> row) {
  float most = maximum(row.data(), int64_t(row.size()));
  return size_t(llvm::find(row, most) - row.begin());
}

void quern::quantize::logSoftmax(llvm::MutableArrayRef<float> row) {
  double total = logSumExpOf(row);
  for (float &v : row)
    v = float(double(v) - total);
}

void quern::quantize::scorePosition(ArrayRef<float> logA, ArrayRef<float> b, int32_t next,
                                    Divergence &out) {
  double total = logSumExpOf(b);
  out.kl.push_back(divergenceOf(logA.data(), b.data(), total, int64_t(logA.size())));
  double lossA = -double(logA[size_t(next)]), lossB = total - double(b[size_t(next)]);
  out.loss += lossB;
  out.baseLoss += lossA;
  double change = std::exp(-lossB) - std::exp(-lossA);
  out.changeSquared += change * change;
  out.agree += best(logA) == best(b);
}

double Divergence::mean() const {
  double sum = 0;
  for (double v : kl)
    sum += v;
  return kl.empty() ? 0 : sum / double(kl.size());
}
double Divergence::percentile(double share) const {
  if (kl.empty())
    return 0;
  std::vector<double> values = kl;
  size_t i = std::min(values.size() - 1, size_t(share * double(values.size())));
  std::nth_element(values.begin(), values.begin() + long(i), values.end());
  return values[i];
}
double Divergence::perplexity() const { return std::exp(loss / double(kl.size())); }
double Divergence::basePerplexity() const { return std::exp(baseLoss / double(kl.size())); }
double Divergence::rmsChange() const { return std::sqrt(changeSquared / double(kl.size())); }
double Divergence::agreement() const { return double(agree) / double(kl.size()); }

double Divergence::interval() const {
  size_t n = windowKl.size();
  if (n < 2)
    return 0;
  std::mt19937_64 random(1); // the same text gives the same interval
  std::vector<double> means(1000);
  for (double &m : means) {
    m = 0;
    for (size_t i = 0; i < n; ++i)
      m += windowKl[random() % n] / double(n);
  }
  std::sort(means.begin(), means.end());
  return (means[974] - means[25]) / 2;
}

Divergence::Ratio Divergence::perplexityRatio() const {
  Ratio out;
  size_t n = windowLoss.size();
  out.value = out.low = out.high = std::exp((loss - baseLoss) / double(kl.size()));
  if (n < 2)
    return out;
  std::mt19937_64 random(1);
  double positions = double(kl.size()) / double(n);
  std::vector<double> ratios(1000);
  for (double &r : ratios) {
    double difference = 0;
    for (size_t i = 0; i < n; ++i) {
      size_t w = random() % n;
      difference += windowLoss[w] - windowBaseLoss[w];
    }
    r = std::exp(difference / (positions * double(n)));
  }
  std::sort(ratios.begin(), ratios.end());
  out.low = ratios[25];
  out.high = ratios[974];
  return out;
}

std::vector<double> Divergence::byPosition() const {
  size_t windows = windowKl.size(), positions = windows ? kl.size() / windows : 0;
  std::vector<double> out(positions);
  for (size_t i = 0; i < kl.size(); ++i)
    out[i % positions] += kl[i] / double(windows);
  return out;
}

llvm::json::Object Divergence::report() const {
  Ratio ratio = perplexityRatio();
  return llvm::json::Object{{"kl_mean", mean()},
                            {"kl_interval", interval()},
                            {"kl_median", percentile(0.5)},
                            {"kl_p99", percentile(0.99)},
                            {"kl_p999", percentile(0.999)},
                            {"top1_agreement", agreement()},
                            {"rms_probability_change", rmsChange()},
                            {"perplexity", perplexity()},
                            {"baseline_perplexity", basePerplexity()},
                            {"perplexity_ratio", ratio.value},
                            {"perplexity_ratio_interval", {ratio.low, ratio.high}},
                            {"position_kl", llvm::json::Array(byPosition())},
                            {"positions", int64_t(kl.size())},
                            {"windows", int64_t(windowKl.size())},
                            {"window_kl", llvm::json::Array(windowKl)}};
}

/// The logits of the scored positions of a window.
static Error runWindow(Predictor &program, const Windows &windows, size_t i,
                       std::vector<float> &logits) {
  std::vector<int32_t> ids = windows.prefix;
  llvm::append_range(ids, windows.at(i).drop_back()); // the last is only predicted
  if (Error e = program.run(ids, logits))
    return e;
  logits.erase(logits.begin(),
               logits.begin() + long(windows.prefix.size() * size_t(program.vocabulary())));
  return Error::success();
}

/// Splits positions among threads, and puts the parts together in order.
static void scoreWindow(ArrayRef<float> logA, ArrayRef<float> b, ArrayRef<int32_t> tokens,
                        size_t vocabulary, llvm::ThreadPoolInterface &pool, Divergence &out) {
  size_t positions = tokens.size() - 1;
  constexpr size_t part = 32;
  std::vector<Divergence> parts((positions + part - 1) / part);
  for (size_t p = 0; p < parts.size(); ++p)
    pool.async([&, p] {
      for (size_t i = p * part; i < std::min(positions, (p + 1) * part); ++i)
        scorePosition(logA.slice(i * vocabulary, vocabulary), b.slice(i * vocabulary, vocabulary),
                      tokens[i + 1], parts[p]);
    });
  pool.wait();
  double sum = 0, loss = 0, baseLoss = 0;
  for (const Divergence &p : parts) {
    loss += p.loss;
    baseLoss += p.baseLoss;
    for (double v : p.kl)
      sum += v;
    llvm::append_range(out.kl, p.kl);
    out.loss += p.loss;
    out.baseLoss += p.baseLoss;
    out.changeSquared += p.changeSquared;
    out.agree += p.agree;
  }
  out.windowKl.push_back(sum / double(positions));
  out.windowLoss.push_back(loss);
  out.windowBaseLoss.push_back(baseLoss);
}

static void logSoftmaxRows(std::vector<float> &logits, size_t vocabulary,
                           llvm::ThreadPoolInterface &pool) {
  size_t rows = logits.size() / vocabulary;
  constexpr size_t part = 32;
  for (size_t begin = 0; begin < rows; begin += part)
    pool.async([&, begin] {
      for (size_t i = begin; i < std::min(rows, begin + part); ++i)
        logSoftmax(llvm::MutableArrayRef(logits).slice(i * vocabulary, vocabulary));
    });
  pool.wait();
}

Expected<Baseline> Baseline::create(Predictor &program, const Windows &windows) {
  Baseline out;
  out.text = &windows;
  out.vocabulary = size_t(program.vocabulary());
  out.logProbabilities.reserve(windows.count() * size_t(windows.window - 1) * out.vocabulary);
  llvm::DefaultThreadPool pool;
  std::vector<float> logits;
  for (size_t i = 0; i < windows.count(); ++i) {
    if (Error e = runWindow(program, windows, i, logits))
      return std::move(e);
    logSoftmaxRows(logits, out.vocabulary, pool);
    llvm::append_range(out.logProbabilities, logits);
  }
  return out;
}

static Error checkFinite(const Divergence &d) {
  if (!std::isfinite(d.loss) || !std::isfinite(d.baseLoss))
    return createStringError("the model's predictions are not finite numbers");
  return Error::success();
}

Expected<Divergence> quern::quantize::measure(Predictor &program, const Baseline &baseline) {
  Divergence out;
  llvm::DefaultThreadPool pool;
  std::vector<float> logits;
  const Windows &windows = baseline.windows();
  for (size_t i = 0; i < windows.count(); ++i) {
    if (Error e = runWindow(program, windows, i, logits))
      return std::move(e);
    scoreWindow(baseline.at(i), logits, windows.at(i), size_t(program.vocabulary()), pool, out);
  }
  if (Error e = checkFinite(out))
    return std::move(e);
  return out;
}

Expected<Divergence> quern::quantize::measure(Predictor &a, Predictor &b, const Windows &windows,
                                              llvm::function_ref<bool(double)> progress) {
  if (a.vocabulary() != b.vocabulary())
    return createStringError("the models have vocabularies of " + llvm::Twine(a.vocabulary()) +
                             " and " + llvm::Twine(b.vocabulary()) + " tokens");
  Divergence out;
  llvm::DefaultThreadPool pool;
  std::vector<float> logitsA, logitsB;
  size_t vocabulary = size_t(a.vocabulary());
  for (size_t i = 0; i < windows.count(); ++i) {
    if (Error e = runWindow(a, windows, i, logitsA))
      return std::move(e);
    logSoftmaxRows(logitsA, vocabulary, pool);
    if (Error e = runWindow(b, windows, i, logitsB))
      return std::move(e);
    scoreWindow(logitsA, logitsB, windows.at(i), vocabulary, pool, out);
    if (!progress(double(i + 1) / double(windows.count())))
      return createStringError("cancelled");
  }
  if (Error e = checkFinite(out))
    return std::move(e);
  return out;
}
