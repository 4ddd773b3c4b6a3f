// Fuzzes what a running program reads: saved states of sequences, baselines of --save-logits, JSON
// and the command line. The model is a toy whose logits depend on all that the cache holds.
#include "../../lib/Runtime/Program/Cli.h"
#include "Files.h"
#include "Payload.h"
#include <cmath>

using namespace quern::runtime;
using quern::fuzz::Decisions;
using quern::fuzz::Folder;

const char *quern::runtime::cli::programName = "model"; // as Failures.cpp of programs

namespace {

//===--- The toy ----------------------------------------------------------===//

constexpr int32_t vocab = 11, context = 12, maxTokens = 5;
/// Of a sequence: some pages, the last one in part. Tokens lie this far apart.
constexpr uint64_t cacheBytes = 3 * 4096 + 100, stride = 1000;

void forward(const quern_step *s, int32_t thread, int32_t threads) {
  auto place = [&](int32_t i, int32_t position) {
    return s->cache + uint64_t(s->sequences[i]) * cacheBytes + uint64_t(position) * stride;
  };
  for (int32_t i = 0; i < s->token_count; ++i)
    std::memcpy(place(i, s->positions[i]), &s->tokens[i], sizeof(int32_t));
  for (int32_t o = 0; o < s->output_count; ++o) {
    int32_t i = s->outputs[o];
    uint32_t sum = 0, token;
    for (int32_t p = 0; p <= s->positions[i]; ++p) {
      std::memcpy(&token, place(i, p), sizeof token);
      sum = sum * 31 + token;
    }
    for (int32_t v = 0; v < vocab; ++v)
      s->logits[o * vocab + v] = float((sum >> v) % 16) - 8;
  }
}

Model &toy(Decisions &d, Folder &folder) {
  static Model model;
  if (!model.engine) {
    static const quern_target target = {"any", "", forward};
    static quern_program program = {};
    program.abi_version = QUERN_ABI_VERSION;
    program.target_count = 1;
    program.targets = &target;
    program.vocab_size = vocab;
    program.width = 1;
    program.context = context;
    program.max_tokens = maxTokens;
    program.cache_bytes = cacheBytes;
    program.max_threads = 1;
    Decisions plain(nullptr, 0);
    folder.write("toy", payload(plain, {{"w", "", "", "{}"}, 0, 7, ""}));
    EngineOptions options;
    options.program = &program;
    options.payloadPath = folder.path("toy");
    options.threads = 1;
    options.maxSequences = 2;
    if (model.load(options).failed())
      abort();
  }
  for (int32_t sequence : {0, 1})
    (void)model.engine->freeSequence(sequence);
  return model;
}

void check(bool holds) {
  if (!holds)
    abort();
}

template <typename T> void put(std::string &out, T value) {
  out.append(reinterpret_cast<const char *>(&value), sizeof value);
}

//===--- Saved states -----------------------------------------------------===//

std::vector<int32_t> someTokens(Decisions &d, unsigned count) {
  std::vector<int32_t> out(count);
  for (int32_t &token : out)
    token = int32_t(d.below(vocab));
  return out;
}

/// Another length, other pages, other places of pages.
void damageState(Decisions &d, std::string &state) {
  constexpr size_t header = 32, entry = 8 + 4096;
  size_t pages = (state.size() - header) / entry;
  auto set = [&](size_t at, auto value) { std::memcpy(state.data() + at, &value, sizeof value); };
  if (d.rarely(6))
    set(24, int32_t(d.count(context)));
  if (d.below(2) && pages) {
    size_t page = header + d.below(unsigned(pages)) * entry;
    for (unsigned n = d.below(4); n > 0; --n)
      state[page + 8 + (d.byte() << 8 | d.byte()) % 4096] = char(d.byte());
    if (d.rarely(6))
      set(page, d.count(4));
  }
  if (d.rarely(8)) { // one more
    state += std::string(8, 0) + std::string(4096, char(d.byte()));
    set(state.size() - entry, uint64_t(d.below(5)));
    set(28, uint32_t(pages + 1));
  }
  if (d.rarely(12))
    set(28, uint32_t(d.count(9)));
  quern::fuzz::spoil(d, state, 12);
}

bool fuzzState(Decisions &d, Model &model, quern::fuzz::Tally &tally) {
  Engine &engine = *model.engine;
  int32_t from = 0, to = 0;
  check(engine.newSequence(from).ok() && engine.newSequence(to).ok());
  auto append = [&](int32_t sequence, unsigned count) {
    std::vector<int32_t> tokens = someTokens(d, count);
    check(engine.prefill(sequence, tokens, tokens.size(), nullptr).ok());
  };
  append(from, d.below(context + 1));
  append(to, d.below(context + 1));
  std::vector<uint8_t> saved, before, after;
  check(engine.save(from, saved).ok() && engine.save(to, before).ok());
  std::string state(saved.begin(), saved.end());
  damageState(d, state);
  auto bytesOf = [](const std::string &text) {
    return std::span(reinterpret_cast<const uint8_t *>(text.data()), text.size());
  };
  tally.header += state.compare(0, 8, "QUERNKV1") == 0;
  Status s = engine.restore(to, bytesOf(state));
  check(engine.save(to, after).ok());
  if (s.failed()) {
    quern::fuzz::show(s.message);
    check(after == before); // a state that is refused changes nothing
    return false;
  }
  check(engine.length(to) >= 0 && engine.length(to) <= context);
  check(engine.restore(from, after).ok() && engine.save(from, before).ok() && after == before);
  if (engine.length(to) < context)
    append(to, 1);
  return true;
}

//===--- Baselines --------------------------------------------------------===//

std::string baseline(Decisions &d) {
  uint32_t window = d.rarely(12) ? uint32_t(d.count(20)) : 2 + d.below(5);
  uint64_t windows = 1 + d.below(3);
  std::string out = "QUERNLP1";
  put(out, uint32_t(d.rarely(24) ? d.count(20) : vocab));
  put(out, window);
  put(out, uint32_t(d.rarely(24) ? d.count(2) : 0));
  put(out, uint32_t(0));
  put(out, d.rarely(24) ? d.count(9) : windows);
  uint64_t ids = std::min<uint64_t>(windows * window, 100);
  for (uint64_t i = 0; i < ids; ++i)
    put(out, d.rarely(60) ? int32_t(d.word()) : int32_t(d.below(vocab)));
  static const float odd[] = {NAN, INFINITY, -INFINITY, 1, -3e38f, 3e38f, 0, -1e-30f};
  for (uint64_t row = 0; row + windows < ids; ++row) {
    // One token has almost all the probability.
    float step = (12 + float(d.byte()) / 16) / 65535;
    put(out, d.rarely(60) ? odd[d.below(8)] : -step * 65535);
    put(out, d.rarely(60) ? odd[d.below(8)] : step);
    int32_t likeliest = int32_t(d.below(vocab));
    for (int32_t v = 0; v < vocab; ++v)
      put(out, uint16_t(v == likeliest ? 65535 : d.rarely(60) ? 65000 : d.byte() * 64));
  }
  quern::fuzz::spoil(d, out, 16);
  return out;
}

/// What an action printed, as JSON.
Json printed(const std::function<Status()> &act, Status &status) {
  char *text = nullptr;
  size_t size = 0;
  std::FILE *before = stdout;
  stdout = open_memstream(&text, &size);
  status = act();
  std::fclose(stdout);
  stdout = before;
  Json out;
  std::string error;
  check(status.failed() ? size == 0 : Json::parse({text, size}, out, error));
  std::free(text);
  return out;
}

bool fuzzBaseline(Decisions &d, Model &model, Folder &folder, quern::fuzz::Tally &tally) {
  std::string file = baseline(d);
  folder.write("baseline", file);
  cli::Options options;
  options.json = true;
  options.windows = d.below(3);
  options.baseline = options.text = folder.path("baseline");
  tally.header += file.starts_with("QUERNLP1");
  auto divergence = [&](Status &s) {
    Json report = printed([&] { return cli::divergence(model, options); }, s);
    (void)model.engine->freeSequence(0);
    for (const char *name : {"mean", "median", "p99", "top1_agreement", "perplexity"})
      check(s.failed() || !report[name].isNull()); // as infinities are printed
    return report;
  };
  Status s;
  if (d.below(2)) {
    divergence(s);
    quern::fuzz::show(s.message);
    check(s.ok() || s.message.find(options.baseline) == 0 || s.code == QUERN_ERROR_CONTEXT);
    return s.ok();
  }
  // Its windows as the text of another baseline, against which the model is what it was.
  options.saveLogits = folder.path("saved");
  options.force = true;
  printed([&] { return cli::perplexity(model, options); }, s);
  (void)model.engine->freeSequence(0);
  quern::fuzz::show(s.message);
  if (s.failed())
    return false;
  options.baseline = options.saveLogits;
  Json report = divergence(s);
  check(s.ok() && std::fabs(report["mean"].asNumber()) < 1e-5 &&
        report["top1_agreement"].asNumber() == 1);
  return true;
}

//===--- JSON -------------------------------------------------------------===//

std::string json(Decisions &d, unsigned depth) {
  static const char *const atoms[] = {"null",           "true",
                                      "false",          "0",
                                      "-1.5e3",         "1e999",
                                      "\"a\"",          "12345678901234567890",
                                      "\"\\u00e9\\n\"", "\"\\ud83d\\ude00\"",
                                      "\"\\ud800\"",    "\"\\q\"",
                                      "nope",           ""};
  std::string out, space = d.rarely(8) ? "\n\t " : "";
  if (depth == 0 || d.below(3) == 0)
    return d.rarely(20) ? "\"" + d.text(6) + "\"" : std::string(d.pick(atoms));
  bool object = d.below(2);
  for (unsigned n = d.below(4); n > 0; --n)
    out += (out.empty() ? "" : ",") + space +
           (object ? "\"" + std::string(1, char('a' + n)) + "\":" : "") + json(d, depth - 1);
  return object ? "{" + out + space + "}" : "[" + out + space + "]";
}

bool fuzzJson(Decisions &d, quern::fuzz::Tally &tally) {
  std::string text = d.rarely(60) ? std::string(100, '[') : json(d, 5), error;
  quern::fuzz::spoil(d, text, 16);
  Json value, again;
  ++tally.header;
  if (!Json::parse(text, value, error)) {
    check(!error.empty());
    return false;
  }
  std::string printed = value.print();
  check(Json::parse(printed, again, error) && again.print() == printed);
  return true;
}

//===--- The command line -------------------------------------------------===//

bool fuzzCommandLine(Decisions &d, quern::fuzz::Tally &tally) {
  static const char *const options[] = {"--help",
                                        "-h",
                                        "--bench",
                                        "--info",
                                        "--embed",
                                        "--chat",
                                        "--json",
                                        "-n",
                                        "--top-k",
                                        "--window",
                                        "--stop",
                                        "--seed",
                                        "--temperature",
                                        "--top-p",
                                        "--min-p",
                                        "--repeat-penalty",
                                        "-f",
                                        "--tokens",
                                        "--perplexity",
                                        "--kl",
                                        "--pooling",
                                        "--save-logits",
                                        "--system",
                                        "--threads",
                                        "--huge-pages",
                                        "--target",
                                        "--",
                                        "-",
                                        "prompt",
                                        "--nope"};
  static const char *const values[] = {"1",
                                       "0",
                                       "-1",
                                       "1e30",
                                       "nan",
                                       "0.5",
                                       "1,2,3",
                                       ",",
                                       "",
                                       "a",
                                       "max",
                                       "mean",
                                       "1 2",
                                       "0x10",
                                       "1.",
                                       "1e-5",
                                       "99999999999999999999",
                                       "inf",
                                       "+1"};
  std::vector<std::string> words = {"model"};
  for (unsigned n = d.below(6); n > 0; --n) {
    words.push_back(d.pick(options));
    std::string value = d.rarely(12) ? d.text(6) : std::string(d.pick(values));
    switch (d.below(3)) {
    case 0:
      words.push_back(value);
      break;
    case 1:
      words.back() += "=" + value;
      break;
    }
  }
  std::vector<char *> argv;
  for (std::string &word : words)
    argv.push_back(word.data());
  argv.push_back(nullptr);
  cli::Options parsed;
  Status s = cli::parse(int(words.size()), argv.data(), parsed);
  ++tally.header;
  check(s.ok() || !s.message.empty());
  return s.ok();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static quern::fuzz::Tally tally("files of programs");
  static Folder folder;
  Decisions d(bytes, size);
  ++tally.runs;
  Model &model = toy(d, folder);
  unsigned kind = d.below(6);
  tally.accepted += kind < 2    ? fuzzState(d, model, tally)
                    : kind < 4  ? fuzzBaseline(d, model, folder, tally)
                    : kind == 4 ? fuzzCommandLine(d, tally)
                                : fuzzJson(d, tally);
  return 0;
}
