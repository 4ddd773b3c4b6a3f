// The subcommands of `quern`: each is one file here, thin over the libraries.
#ifndef QUERN_TOOLS_COMMANDS_H
#define QUERN_TOOLS_COMMANDS_H

#include "quern/Support/Printable.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/raw_ostream.h"

namespace quern::tool {

/// Exit codes: 0 done, 1 the input or the work failed, 2 the command line is wrong.
enum ExitCode { Success = 0, Failure = 1, Usage = 2 };

/// Prints `quern: error: ...`, one line whatever names the input has, and returns Failure.
inline int fail(llvm::Error error) {
  llvm::errs() << "quern: error: " << printable(llvm::toString(std::move(error))) << "\n";
  return Failure;
}

// argv[0] is the name of the subcommand.
int calibrate(int argc, char **argv);
int allocateModel(int argc, char **argv);
int measureKernels(int argc, char **argv);
int evaluate(int argc, char **argv);
int quantizeModel(int argc, char **argv);
int transformModel(int argc, char **argv);
int convert(int argc, char **argv);
int formats(int argc, char **argv);
int inspect(int argc, char **argv);
int compileModel(int argc, char **argv);
int tokenize(int argc, char **argv);
int interpret(int argc, char **argv);

} // namespace quern::tool

#endif
