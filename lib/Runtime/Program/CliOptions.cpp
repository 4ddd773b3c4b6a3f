//===- CliOptions.cpp - Parsing the command line --------------------------===//
//
// A table of options; --help is written beside it.
//
//===----------------------------------------------------------------------===//
#include "Cli.h"
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iterator>
#include <sys/stat.h>
#include <unistd.h>

namespace quern::runtime::cli {

std::string helpText(const std::string &program) {
  return "usage: " + program +
         R"( ["PROMPT"] [options]

Continues a text. Without a prompt, on a terminal, it is a chat; with a prompt or text piped
in, it writes what comes next.

  )" + program +
         R"( "Once upon a time" -n 50            fifty tokens more
  )" + program +
         R"( -f notes.txt --temperature 0.8      continue a file (- is standard input)
  )" + program +
         R"( --system "Answer briefly."          chat with instructions

text
  -f FILE              read the prompt from FILE; - is standard input
  -n N                 stop after N tokens (default: when the text ends)
  --stop TEXT          stop before TEXT; may be given several times
  --ignore-end         go on where the text would end (with -n)
  --special            let markup in the prompt (<|im_start|>) stand for special tokens
  --tokens 1,2,3       the prompt as token ids
  --chat               chat even when not on a terminal: each line of input is a turn
  --system TEXT        instructions that precede the chat
choosing tokens
  --temperature T      0 (default): always the likeliest; higher: more variety
  --top-k K            among the K likeliest (0: all)
  --top-p P            among the likeliest that together have probability P
  --min-p P            among those at least P times as likely as the likeliest
  --repeat-penalty R   above 1: tokens of the recent text become less likely
  --seed N             same seed, same text (default 0)
measuring
  --perplexity FILE    perplexity of a text: exp(mean loss), in windows of --window tokens
  --window N           tokens a window (default: half the context, at most 512)
  --windows N          only the first N windows
  --save-logits FILE   with --perplexity: keep all predictions as a baseline
  --kl FILE            divergence from a baseline that another program saved
  --embed              print the final hidden state of the prompt's last token
  --pooling mean       with --embed: the mean over all tokens instead
  --logits FILE        write the logits of every prompt token as raw float32 rows
  --bench              speed: prefill of 128 and 512 tokens, decode of 64
  --repeat N           runs of --bench (default 5)
  --info               what is inside: every tensor's format, size, layout and kernel
running
  --threads N          default: one a physical core this process may use
  --huge-pages         copy the weights into 2 MB pages first
  --target NAME        use this CPU target (see --info)
  --weights FILE       where the weights are, if not beside the program
  --verify             check the weights against their hash first
  --json               reports as JSON
  --force              let --logits and --save-logits overwrite a file
  --help               this text

Exit status: 0 done, 1 failed, 2 wrong command line, 3 this CPU runs none of the targets.
)";
}

namespace {
Status usage(const std::string &message) {
  return Status::error(QUERN_ERROR_ARGUMENT, message + " (--help explains)");
}

/// An option that takes a value (parse returns false if it is malformed) or is a switch.
struct Option {
  const char *name;
  const char *expects; ///< null: a switch
  std::function<bool(Options &, const std::string &)> set;
};

template <typename T> bool number(const std::string &text, T &out, T least, T most) {
  if constexpr (std::is_floating_point_v<T>) {
    return !text.empty() && parseDecimal(text, out) == text.size() && out >= least && out <= most;
  } else {
    const char *end = text.data() + text.size();
    auto [stop, ec] = std::from_chars(text.data(), end, out);
    return ec == std::errc() && stop == end && out >= least && out <= most;
  }
}

bool tokenList(Options &o, const std::string &text) {
  o.hasTokens = true;
  for (size_t at = 0; at < text.size();) {
    size_t end = std::min(text.find(',', at), text.size());
    int32_t id;
    if (!number(text.substr(at, end - at), id, 0, INT32_MAX))
      return false;
    o.tokens.push_back(id);
    at = end + 1;
  }
  return !o.tokens.empty();
}

Option flag(const char *name, bool Options::*field) {
  return {name, nullptr, [field](Options &o, const std::string &) { return o.*field = true; }};
}
Option action(const char *name, Action a) {
  return {name, nullptr, [a](Options &o, const std::string &) {
            o.action = a;
            return true;
          }};
}
Option text(const char *name, std::string Options::*field) {
  return {name, "a file", [field](Options &o, const std::string &v) {
            o.*field = v;
            return !v.empty();
          }};
}
Option integer(const char *name, int64_t Options::*field, int64_t least) {
  return {name, "a whole number", [=](Options &o, const std::string &v) {
            return number(v, o.*field, least, int64_t(INT32_MAX));
          }};
}
Option real(const char *name, double Options::*field, double most) {
  return {name, "a number",
          [=](Options &o, const std::string &v) { return number(v, o.*field, 0.0, most); }};
}

const std::vector<Option> &optionTable() {
  static const std::vector<Option> table = {
      action("--help", Action::Help),
      action("-h", Action::Help),
      action("--bench", Action::Bench),
      action("--info", Action::Info),
      action("--embed", Action::Embed),
      flag("--chat", &Options::chat),
      flag("--ignore-end", &Options::ignoreEnd),
      flag("--special", &Options::special),
      flag("--json", &Options::json),
      flag("--verify", &Options::verify),
      flag("--force", &Options::force),
      integer("-n", &Options::count, 0),
      integer("--top-k", &Options::topK, 0),
      integer("--window", &Options::window, 2),
      integer("--windows", &Options::windows, 1),
      integer("--repeat", &Options::repeat, 1),
      real("--temperature", &Options::temperature, 100),
      real("--top-p", &Options::topP, 1),
      real("--min-p", &Options::minP, 1),
      real("--repeat-penalty", &Options::repeatPenalty, 100),
      text("--save-logits", &Options::saveLogits),
      text("--logits", &Options::rows),
      {"--perplexity", "a text file",
       [](Options &o, const std::string &v) {
         o.action = Action::Perplexity;
         o.text = v;
         return !v.empty();
       }},
      {"--kl", "a baseline file",
       [](Options &o, const std::string &v) {
         o.action = Action::Divergence;
         o.baseline = v;
         return !v.empty();
       }},
      {"--pooling", "'last' or 'mean'",
       [](Options &o, const std::string &v) {
         o.meanPooling = v == "mean";
         return v == "mean" || v == "last";
       }},
      {"-f", "a file or -",
       [](Options &o, const std::string &v) {
         o.promptFile = v;
         return !v.empty();
       }},
      {"--stop", "a text",
       [](Options &o, const std::string &v) {
         o.stops.push_back(v);
         return !v.empty();
       }},
      {"--system", "a text",
       [](Options &o, const std::string &v) {
         o.system = v;
         return true;
       }},
      {"--tokens", "token ids with commas between", tokenList},
      {"--seed", "a whole number",
       [](Options &o, const std::string &v) { return number(v, o.seed, uint64_t(0), UINT64_MAX); }},
      {"--threads", "a whole number of at least 1",
       [](Options &o, const std::string &v) { return number(v, o.engine.threads, 1, 4096); }},
      {"--target", "the name of a target",
       [](Options &o, const std::string &v) {
         o.engine.target = v;
         return !v.empty();
       }},
      {"--weights", "a file",
       [](Options &o, const std::string &v) {
         o.engine.weightsPath = v;
         return !v.empty();
       }},
      {"--huge-pages", nullptr,
       [](Options &o, const std::string &) { return o.engine.hugePages = true; }},
  };
  return table;
}
} // namespace

Status parse(int argc, char **argv, Options &o) {
  o.program = programName;
  bool onlyPrompts = false;
  for (int i = 1; i < argc; ++i) {
    std::string arg = argv[i];
    if (!onlyPrompts && arg == "--") {
      onlyPrompts = true;
      continue;
    }
    if (onlyPrompts || arg.size() < 2 || arg[0] != '-') {
      if (o.prompt)
        return usage("more than one prompt: '" + *o.prompt + "' and '" + arg +
                     "'; quote a prompt with spaces");
      if (arg == "-" && !onlyPrompts)
        o.promptFile = arg;
      else
        o.prompt = arg;
      continue;
    }
    std::optional<std::string> value;
    if (size_t equals = arg.find('='); arg.rfind("--", 0) == 0 && equals != std::string::npos) {
      value = arg.substr(equals + 1);
      arg.resize(equals);
    }
    const Option *option = nullptr;
    for (const Option &candidate : optionTable())
      if (arg == candidate.name)
        option = &candidate;
    if (!option)
      return usage("unknown option '" + arg + "'");
    if (!option->expects) {
      if (value)
        return usage("'" + arg + "' takes no value");
      option->set(o, "");
      continue;
    }
    if (!value) {
      if (i + 1 >= argc)
        return usage("'" + arg + "' needs " + option->expects);
      value = argv[++i];
    }
    if (!option->set(o, *value))
      return usage("'" + arg + "' needs " + option->expects + ", not '" + *value + "'");
  }
  if (int(o.prompt.has_value()) + int(o.promptFile.has_value()) + int(o.hasTokens) > 1)
    return usage("the prompt was given more than once: as an argument, with -f or --tokens");
  if (!o.saveLogits.empty() && o.action != Action::Perplexity)
    return usage("--save-logits needs --perplexity");
  if (o.action == Action::Generate) {
    bool given = o.prompt || o.promptFile || o.hasTokens;
    if (o.chat || o.system || (!given && isatty(STDIN_FILENO)))
      o.action = Action::Chat;
    else if (!given)
      o.promptFile = "-";
  }
  return {};
}

/// All that is left of a stream. Streams of the C++ library would be half of a small program.
static bool readAll(std::FILE *in, std::string &out) {
  out.clear();
  char buffer[1 << 14];
  while (size_t n = std::fread(buffer, 1, sizeof buffer, in))
    out.append(buffer, n);
  return !std::ferror(in);
}

Status readText(const std::string &path, std::string &out) {
  if (path == "-") {
    readAll(stdin, out);
    return {};
  }
  struct stat s;
  if (stat(path.c_str(), &s) != 0)
    return Status::error(QUERN_ERROR_FILE, path + ": cannot open: " + std::strerror(errno));
  if (S_ISDIR(s.st_mode))
    return Status::error(QUERN_ERROR_FILE, path + ": is a directory, expected a text file");
  std::FILE *in = std::fopen(path.c_str(), "rb");
  if (!in)
    return Status::error(QUERN_ERROR_FILE, path + ": cannot open: " + std::strerror(errno));
  bool ok = readAll(in, out);
  std::fclose(in);
  if (!ok)
    return Status::error(QUERN_ERROR_FILE, path + ": cannot read");
  return {};
}

Status promptTokens(const Model &model, const Options &o, std::vector<int32_t> &ids) {
  if (o.hasTokens) {
    ids = o.tokens;
    return {};
  }
  std::string text;
  if (o.prompt)
    text = *o.prompt;
  else if (Status s = readText(o.promptFile.value_or("-"), text); s.failed())
    return s;
  if (Status s = model.tokenize(text, o.special, /*prefix=*/true, ids); s.failed())
    return s;
  if (ids.empty())
    return Status::error(QUERN_ERROR_ARGUMENT, "the prompt is empty");
  return {};
}

} // namespace quern::runtime::cli
