// The subcommands of `quern`: each is one file here, thin over the libraries.
#ifndef QUERN_TOOLS_COMMANDS_H
#define QUERN_TOOLS_COMMANDS_H

#include "llvm/Support/Error.h"
#include "llvm/Support/raw_ostream.h"

namespace quern::tool {

/// Exit codes: 0 done, 1 the input or the work failed, 2 the command line is wrong.
enum ExitCode { Success = 0, Failure = 1, Usage = 2 };

/// Prints `quern: error: ...` and returns Failure.
inline int fail(llvm::Error error) {
  llvm::errs() << "quern: error: " << llvm::toString(std::move(error)) << "\n";
  return Failure;
}

} // namespace quern::tool

#endif
