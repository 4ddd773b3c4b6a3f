//===- CliGenerate.h - Token by token, for completion and chat --*- C++ -*-===//
//
// What continuing a text and taking a turn in a chat have in common.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_RUNTIME_CLIGENERATE_H
#define QUERN_LIB_RUNTIME_CLIGENERATE_H

#include "Cli.h"
#include <memory>
#include <span>

namespace quern::runtime::cli {

/// Passes text on until one of the stop texts appears; holds back what may become one.
class StopText {
public:
  explicit StopText(const std::vector<std::string> &stops) : stops(stops) {}
  std::string push(const std::string &text);
  std::string flush();
  bool stopped() const { return found; }

private:
  const std::vector<std::string> &stops;
  std::string pending;
  bool found = false;
};

struct Result {
  std::vector<int32_t> tokens;
  std::string text;
  int32_t end = -1;     ///< the token that ended it, not among `tokens`
  bool full = false;    ///< the context was
  bool stopped = false; ///< by a --stop text
};

class Generator {
public:
  Generator(Model &model, const Options &options);
  Status start();
  /// Appends `input` to the text and continues it. `show`: prints as it goes.
  Status run(std::span<const int32_t> input, bool show, Result &result);
  /// All tokens so far; the last one may not have been fed to the model yet.
  const std::vector<int32_t> &tokens() const { return history; }

private:
  int32_t choose(const float *row);
  Model &model;
  const Options &options;
  int32_t sequence = -1;
  std::vector<int32_t> history;
};

} // namespace quern::runtime::cli

#endif // QUERN_LIB_RUNTIME_CLIGENERATE_H
