//===- Main.cpp - Entry of an emitted program -----------------------------===//
//
// Parses the command line, loads the model, runs one action.
//
//===----------------------------------------------------------------------===//
#include "Cli.h"
#include <cstdio>

namespace quern::runtime::cli {

static int fail(const Options &options, const Status &status, int code) {
  std::fflush(stdout);
  std::fprintf(stderr, "%s: error: %s\n", options.program.c_str(), status.message.c_str());
  return code;
}

static int run(int argc, char **argv, Options &options) {
  if (Status s = parse(argc, argv, options); s.failed())
    return fail(options, s, Usage);
  if (options.action == Action::Help) {
    std::fputs(helpText(options.program).c_str(), stdout);
    return Success;
  }
  options.engine.program = &quern_program_v1;
  Model model;
  Status s = model.load(options.engine);
  if (s.failed())
    return fail(options, s, s.code == QUERN_ERROR_CPU ? WrongCpu : Failure);
  if (options.verify)
    if (s = model.engine->payload().verifyWeights(); s.failed())
      return fail(options, s, Failure);
  static Status (*const actions[])(Model &, const Options &) = {
      generate, chat, perplexity, divergence, embed, bench, info};
  s = actions[size_t(options.action)](model, options);
  if (s.ok() && (std::fflush(stdout) != 0 || std::ferror(stdout)))
    s = Status::error(QUERN_ERROR_FILE, "cannot write to standard output");
  return s.ok() ? Success : fail(options, s, Failure);
}

} // namespace quern::runtime::cli

extern "C" int quern_main(int argc, char **argv) {
  using namespace quern::runtime;
  cli::Options options;
  if (argc > 0 && argv[0])
    cli::programName = argv[0];
  return cli::run(argc, argv, options);
}
