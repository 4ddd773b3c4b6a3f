//===- CliEvaluate.cpp - Perplexity and divergence ------------------------===//
//
// The text is cut into windows of tokens; each is a sequence of its own, and every
// token but the first is scored from those before it. A BOS that the model asks for
// stands in front of each window, unscored.
//
// A baseline keeps, for every scored position, all log-probabilities as 16-bit steps
// between the row's least and greatest (an error below 0.001 for a spread of 60).
//
//===----------------------------------------------------------------------===//
#include "Cli.h"
#include "quern/Runtime/Hash.h"
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <unistd.h>

namespace quern::runtime::cli {

namespace {
struct BaselineHeader {
  char magic[8];
  uint32_t vocab, window, prefix, reserved;
  uint64_t windows; ///< then windows x window token ids, then the rows
};
constexpr char baselineMagic[8] = {'Q', 'U', 'E', 'R', 'N', 'L', 'P', '1'};

/// Before each row's codes: log-probability = least + code x step.
struct RowHeader {
  float least, step;
};

struct FileCloser {
  void operator()(std::FILE *f) const { std::fclose(f); }
};
using File = std::unique_ptr<std::FILE, FileCloser>;

/// log(sum(exp(row))), in double. The sum is made in a fixed number of lanes.
double logSumExp(const float *row, size_t n) {
  float most = *std::max_element(row, row + n);
  double lanes[4] = {};
  size_t i = 0;
  for (; i + 4 <= n; i += 4)
    for (size_t l = 0; l < 4; ++l)
      lanes[l] += double(std::exp(row[i + l] - most));
  for (; i < n; ++i)
    lanes[0] += double(std::exp(row[i] - most));
  return double(most) + std::log(lanes[0] + lanes[1] + lanes[2] + lanes[3]);
}

struct Plan {
  size_t window = 0, windows = 0;
  std::vector<int32_t> tokens; ///< windows x window
  std::vector<int32_t> prefix;
};

Status checkWindow(const Model &model, const Plan &plan) {
  size_t context = size_t(model.engine->program().context);
  if (plan.window + plan.prefix.size() > context)
    return Status::error(QUERN_ERROR_CONTEXT,
                         "context overflow: a window of " + std::to_string(plan.window) +
                             " tokens does not fit the context of " + std::to_string(context));
  return {};
}

/// Runs one window and calls `score` with each scored position's row and the next token.
template <typename Score>
Status scoreWindow(Model &model, int32_t sequence, const Plan &plan, size_t index, Score score) {
  std::vector<int32_t> ids = plan.prefix;
  const int32_t *tokens = plan.tokens.data() + index * plan.window;
  ids.insert(ids.end(), tokens, tokens + plan.window - 1); // the last one is only predicted
  if (Status s = model.engine->rollback(sequence, 0); s.failed())
    return s;
  return model.engine->prefill(sequence, ids, plan.prefix.size(), [&](size_t i, float *row) {
    score(row, ids.size() == i + 1 ? tokens[plan.window - 1] : ids[i + 1]);
  });
}

struct Sum {
  double total = 0;
  size_t count = 0;
  void add(double v) { total += v, ++count; }
  double mean() const { return count ? total / double(count) : 0; }
};
} // namespace

static Status fileFailure(const std::string &path, const char *what) {
  return Status::error(QUERN_ERROR_FILE, path + ": " + what + ": " + std::strerror(errno));
}

static Status notFinite() {
  return Status::error(QUERN_ERROR_ARGUMENT, "the model's predictions are not finite numbers");
}

static void writeRow(std::FILE *out, const float *row, size_t n, double lse,
                     std::vector<uint16_t> &codes) {
  auto [least, most] = std::minmax_element(row, row + n);
  RowHeader h{float(*least - lse), (*most - *least) / 65535.0f};
  codes.resize(n);
  for (size_t i = 0; i < n; ++i)
    codes[i] = h.step > 0 ? uint16_t(std::lrint((row[i] - *least) / h.step)) : 0;
  std::fwrite(&h, sizeof h, 1, out);
  std::fwrite(codes.data(), sizeof(uint16_t), n, out);
}

Status checkOutput(const std::string &path, bool force) {
  if (!force && access(path.c_str(), F_OK) == 0)
    return Status::error(QUERN_ERROR_FILE, path + ": exists; give --force to overwrite it");
  return {};
}

/// The windows of a baseline, with or without its rows, in the place of a text.
static Status readWindows(const Model &model, const std::string &path, std::string_view file,
                          size_t &window, std::vector<int32_t> &tokens) {
  auto bad = [&](const char *what) { return Status::error(QUERN_ERROR_FILE, path + ": " + what); };
  BaselineHeader h;
  if (file.size() < sizeof h)
    return bad("is damaged or was cut off");
  std::memcpy(&h, file.data(), sizeof h);
  size_t vocab = size_t(model.engine->program().vocab_size);
  if (h.vocab != vocab)
    return bad("was made for another vocabulary");
  uint64_t ids;
  if (h.window < 2 || h.windows == 0 || __builtin_mul_overflow(h.windows, h.window, &ids) ||
      ids > (file.size() - sizeof h) / sizeof(int32_t))
    return bad("is damaged or was cut off");
  window = h.window;
  tokens.resize(ids);
  std::memcpy(tokens.data(), file.data() + sizeof h, ids * sizeof(int32_t));
  for (int32_t id : tokens)
    if (id < 0 || size_t(id) >= vocab)
      return bad("holds a token that does not exist");
  return {};
}

Status perplexity(Model &model, const Options &options) {
  if (!options.saveLogits.empty())
    if (Status s = checkOutput(options.saveLogits, options.force); s.failed())
      return s;
  std::string text;
  if (Status s = readText(options.text, text); s.failed())
    return s;
  Plan plan;
  std::vector<int32_t> all;
  size_t context = size_t(model.engine->program().context);
  if (text.starts_with(std::string_view(baselineMagic, sizeof baselineMagic))) {
    if (Status s = readWindows(model, options.text, text, plan.window, all); s.failed())
      return s;
  } else {
    if (Status s = model.tokenize(text, /*special=*/false, /*prefix=*/false, all); s.failed())
      return s;
    plan.window = options.window ? size_t(options.window) : std::min<size_t>(512, context / 2);
  }
  if (model.tokenizer)
    plan.prefix = model.tokenizer->prefix();
  if (Status s = checkWindow(model, plan); s.failed())
    return s;
  plan.windows = all.size() / plan.window;
  if (plan.windows == 0)
    return Status::error(QUERN_ERROR_ARGUMENT,
                         options.text + ": has " + std::to_string(all.size()) +
                             " tokens, fewer than one window of " + std::to_string(plan.window));
  if (options.windows)
    plan.windows = std::min(plan.windows, size_t(options.windows));
  size_t textTokens = all.size();
  all.resize(plan.windows * plan.window);
  plan.tokens = std::move(all);

  size_t vocab = size_t(model.engine->program().vocab_size);
  File save;
  std::string aside = options.saveLogits + ".tmp";
  if (!options.saveLogits.empty()) {
    save.reset(std::fopen(aside.c_str(), "wb"));
    if (!save)
      return fileFailure(options.saveLogits, "cannot write");
    BaselineHeader h = {};
    std::memcpy(h.magic, baselineMagic, sizeof h.magic);
    h.vocab = uint32_t(vocab);
    h.window = uint32_t(plan.window);
    h.windows = plan.windows;
    h.prefix = uint32_t(plan.prefix.size());
    std::fwrite(&h, sizeof h, 1, save.get());
    std::fwrite(plan.tokens.data(), sizeof(int32_t), plan.tokens.size(), save.get());
  }
  int32_t sequence;
  if (Status s = model.engine->newSequence(sequence); s.failed())
    return s;
  Sum loss;
  std::vector<uint16_t> codes;
  for (size_t w = 0; w < plan.windows; ++w) {
    Status s = scoreWindow(model, sequence, plan, w, [&](const float *row, int32_t next) {
      double lse = logSumExp(row, vocab);
      loss.add(lse - double(row[next]));
      if (save)
        writeRow(save.get(), row, vocab, lse, codes);
    });
    if (s.failed()) {
      if (save)
        std::remove(aside.c_str());
      return s;
    }
  }
  double value = std::exp(loss.mean());
  if (!std::isfinite(value)) {
    if (save)
      std::remove(aside.c_str());
    return notFinite();
  }
  if (save) {
    bool bad = std::ferror(save.get()) != 0;
    bad |= std::fclose(save.release()) != 0;
    if (bad || std::rename(aside.c_str(), options.saveLogits.c_str()) != 0) {
      Status s = fileFailure(options.saveLogits, "cannot write");
      std::remove(aside.c_str());
      return s;
    }
  }
  if (options.json)
    std::printf("%s\n", Json::object()
                            .set("perplexity", value)
                            .set("tokens", uint64_t(textTokens))
                            .set("windows", uint64_t(plan.windows))
                            .set("scored", uint64_t(loss.count))
                            .set("window", uint64_t(plan.window))
                            .print()
                            .c_str());
  else
    std::printf("perplexity %.4f over %zu tokens in %zu windows of %zu\n", value, loss.count,
                plan.windows, plan.window);
  return {};
}

static double percentile(std::vector<double> &values, double share) {
  size_t i = std::min(values.size() - 1, size_t(share * double(values.size())));
  std::nth_element(values.begin(), values.begin() + long(i), values.end());
  return values[i];
}

Status divergence(Model &model, const Options &options) {
  const std::string &path = options.baseline;
  File in(std::fopen(path.c_str(), "rb"));
  if (!in)
    return fileFailure(path, "cannot open");
  auto bad = [&](const std::string &what) {
    return Status::error(QUERN_ERROR_FILE, path + ": " + what);
  };
  BaselineHeader h;
  if (std::fread(&h, sizeof h, 1, in.get()) != 1 ||
      std::memcmp(h.magic, baselineMagic, sizeof h.magic) != 0)
    return bad("is not a baseline written by --save-logits");
  size_t vocab = size_t(model.engine->program().vocab_size);
  if (h.vocab != vocab)
    return bad("has a vocabulary of " + std::to_string(h.vocab) + ", this model of " +
               std::to_string(vocab));
  std::fseek(in.get(), 0, SEEK_END);
  uint64_t size = uint64_t(std::ftell(in.get()));
  std::fseek(in.get(), sizeof h, SEEK_SET);
  Plan plan;
  plan.window = h.window;
  uint64_t ids, rows, rowBytes = sizeof(RowHeader) + 2 * uint64_t(vocab), need;
  if (h.window < 2 || h.windows == 0 || __builtin_mul_overflow(h.windows, h.window, &ids) ||
      __builtin_mul_overflow(h.windows * (h.window - 1), rowBytes, &rows) ||
      __builtin_add_overflow(rows, ids * 4 + sizeof h, &need) || need != size)
    return bad("is damaged or was cut off");
  plan.windows = options.windows ? std::min<size_t>(h.windows, size_t(options.windows)) : h.windows;
  if (model.tokenizer)
    plan.prefix = model.tokenizer->prefix();
  if (plan.prefix.size() != h.prefix)
    return bad("was made with another BOS setting than this model's");
  if (Status s = checkWindow(model, plan); s.failed())
    return s;
  plan.tokens.resize(ids);
  if (std::fread(plan.tokens.data(), sizeof(int32_t), ids, in.get()) != ids)
    return bad("cannot be read");
  for (int32_t id : plan.tokens)
    if (id < 0 || size_t(id) >= vocab)
      return bad("holds token " + std::to_string(id) + ", which does not exist");

  int32_t sequence;
  if (Status s = model.engine->newSequence(sequence); s.failed())
    return s;
  Sum loss, baseLoss, sum;
  std::vector<double> all;
  size_t agree = 0;
  bool readError = false, damaged = false;
  std::vector<uint16_t> codes(vocab);
  for (size_t w = 0; w < plan.windows; ++w) {
    Status s = scoreWindow(model, sequence, plan, w, [&](const float *row, int32_t next) {
      RowHeader rh;
      readError |= std::fread(&rh, sizeof rh, 1, in.get()) != 1 ||
                   std::fread(codes.data(), 2, vocab, in.get()) != vocab;
      if (readError)
        return;
      double lse = logSumExp(row, vocab), kl = 0, mass = 0;
      size_t best = 0, baseBest = 0;
      for (size_t i = 0; i < vocab; ++i) {
        if (row[i] > row[best])
          best = i;
        if (codes[i] > codes[baseBest])
          baseBest = i;
        float logP = rh.least + rh.step * float(codes[i]);
        float p = std::exp(logP);
        kl += double(p) * (double(logP) - (double(row[i]) - lse));
        mass += double(p);
      }
      // The 16-bit steps leave the total a little off 1; take that out of both sides.
      damaged |= !(rh.step >= 0 && mass > 0.1 && mass < 10);
      kl = kl / mass - std::log(mass);
      agree += best == baseBest;
      sum.add(kl);
      all.push_back(kl);
      loss.add(lse - double(row[next]));
      baseLoss.add(-double(rh.least + rh.step * float(codes[size_t(next)])));
    });
    if (s.failed())
      return s;
    if (readError || damaged)
      return bad(readError ? "cannot be read" : "is damaged: its probabilities do not add up");
  }
  if (!std::isfinite(sum.mean()) || !std::isfinite(std::exp(loss.mean())))
    return notFinite();
  if (!std::isfinite(std::exp(baseLoss.mean())))
    return bad("is damaged: it gives a token of its text no probability");
  Json r = Json::object();
  r.set("mean", sum.mean())
      .set("median", percentile(all, 0.5))
      .set("p99", percentile(all, 0.99))
      .set("top1_agreement", double(agree) / double(sum.count))
      .set("perplexity", std::exp(loss.mean()))
      .set("baseline_perplexity", std::exp(baseLoss.mean()))
      .set("tokens", uint64_t(sum.count))
      .set("windows", uint64_t(plan.windows));
  if (options.json)
    std::printf("%s\n", r.print().c_str());
  else
    std::printf("KL divergence  mean %.6f, median %.6f, 99 %% %.6f\n"
                "top-1 agreement %.2f %%\nperplexity %.4f (baseline %.4f) over %zu tokens\n",
                r["mean"].asNumber(), r["median"].asNumber(), r["p99"].asNumber(),
                100 * r["top1_agreement"].asNumber(), r["perplexity"].asNumber(),
                r["baseline_perplexity"].asNumber(), sum.count);
  return {};
}

} // namespace quern::runtime::cli
