//===- Cli.h - The command line of an emitted program -----------*- C++ -*-===//
//
// Options and the actions they select; one file an action.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_RUNTIME_PROGRAM_CLI_H
#define QUERN_LIB_RUNTIME_PROGRAM_CLI_H

#include "quern/Runtime/Model.h"
#include <optional>
#include <string>
#include <vector>

namespace quern::runtime::cli {

/// Exit codes: 0 done, 1 failed, 2 the command line is wrong, 3 this CPU runs none of the targets.
enum ExitCode { Success = 0, Failure = 1, Usage = 2, WrongCpu = 3 };

enum class Action { Generate, Chat, Perplexity, Divergence, Embed, Bench, Info, Help };

/// argv[0], for messages.
extern const char *programName;

struct Options {
  Action action = Action::Generate;
  std::string program; ///< argv[0]
  std::optional<std::string> prompt, promptFile, system;
  std::vector<int32_t> tokens; ///< --tokens: the prompt as ids
  bool hasTokens = false;
  int64_t count = -1; ///< -n; -1: until the text ends
  bool chat = false, ignoreEnd = false, special = false, json = false, verify = false,
       force = false;
  std::vector<std::string> stops;
  // Sampling; temperature 0 takes the likeliest token.
  double temperature = 0, topP = 1, minP = 0, repeatPenalty = 1;
  int64_t topK = 0;
  uint64_t seed = 0;
  // Evaluation.
  std::string text, baseline, saveLogits, rows;
  int64_t window = 0, windows = 0; ///< 0: the default, all
  bool meanPooling = false;
  int64_t repeat = 5;
  // How to run.
  EngineOptions engine;
};

/// Fills `options`; the message of a failure says what to write instead.
Status parse(int argc, char **argv, Options &options);
std::string helpText(const std::string &program);

// The actions. They print results to stdout, and return errors.
Status generate(Model &model, const Options &options);
Status chat(Model &model, const Options &options);
Status perplexity(Model &model, const Options &options);
Status divergence(Model &model, const Options &options);
Status embed(Model &model, const Options &options);
Status bench(Model &model, const Options &options);
Status info(Model &model, const Options &options);

/// The prompt's ids, from --tokens, the argument, a file or stdin.
Status promptTokens(const Model &model, const Options &options, std::vector<int32_t> &ids);
/// A whole file, or stdin for "-".
Status readText(const std::string &path, std::string &out);
/// Whether a file may be written there: an error where one is and `force` was not given.
Status checkOutput(const std::string &path, bool force);

} // namespace quern::runtime::cli

#endif // QUERN_LIB_RUNTIME_PROGRAM_CLI_H
