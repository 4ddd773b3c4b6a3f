//===- CliGenerate.h - Token by token, for completion and chat --*- C++ -*-===//
//
// What continuing a text and taking a turn in a chat have in common.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_RUNTIME_CLIGENERATE_H
#define QUERN_LIB_RUNTIME_CLIGENERATE_H

#include "Cli.h"
#include "quern/Runtime/Sampler.h"
#include <memory>
#include <span>

namespace quern::runtime::cli {

struct Result {
  std::vector<int32_t> tokens;
  std::string text;
  int32_t end = -1;     ///< the token that ended it, not among `tokens`
  bool full = false;    ///< the context was
  bool stopped = false; ///< by a --stop text

  /// As --json prints it; `prompt`: what it continues.
  Json report(std::span<const int32_t> prompt) const;
};

class Generator {
public:
  Generator(Model &model, const Options &options);
  Status start();
  /// Continues the text `all`, of which what earlier calls left in the cache is not computed again.
  /// `show`: prints as it goes.
  Status run(std::span<const int32_t> all, bool show, Result &result);

private:
  Status next(int32_t &token);
  Model &model;
  const Options &options;
  Sampler sampler;
  int32_t sequence = -1;
  std::vector<int32_t> history; ///< the text; the sequence may hold less of it
};

} // namespace quern::runtime::cli

#endif // QUERN_LIB_RUNTIME_CLIGENERATE_H
