//===- quern.cpp - The driver ---------------------------------------------===//
//
// Dispatches to the subcommands; each parses its own options.
//
//===----------------------------------------------------------------------===//
#include "Commands.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Format.h"

namespace {
struct Command {
  const char *name;
  const char *summary;
  int (*run)(int argc, char **argv); ///< argv[0] is "quern NAME"
};
// Sorted as a new user meets them.
const Command commands[] = {
    {"compile", "compiles a model to a program", quern::tool::compileModel},
    {"quantize", "find the best file of a size: GGUF or executable", quern::tool::quantizeModel},
    {"transform", "move outliers out of the way of rounding", quern::tool::transformModel},
    {"evaluate", "perplexity of a model, and how far another is from it", quern::tool::evaluate},
    {"calibrate", "statistics of a model over a text", quern::tool::calibrate},
    {"allocate", "choose a format for every tensor; a file for quantize --allocation",
     quern::tool::allocateModel},
    {"measure", "times of a model's kernels on this host, for budgets of speed",
     quern::tool::measureKernels},
    {"inspect", "list the tensors, formats, bytes and metadata of a model", quern::tool::inspect},
    {"convert", "go between GGUF and Hugging Face models, and between formats",
     quern::tool::convert},
    {"tokenize", "print the token ids of a text", quern::tool::tokenize},
    {"interpret", "run a model in the reference interpreter", quern::tool::interpret},
    {"formats", "list the formats known by name", quern::tool::formats},
    {nullptr, nullptr, nullptr},
};

int printHelp(llvm::raw_ostream &os) {
  os << "quern: compiles language models into native programs\n\n"
        "usage: quern COMMAND [options]      quern COMMAND --help explains one\n\n";
  for (const Command &c : commands)
    if (c.name)
      os << "  " << llvm::left_justify(c.name, 11) << c.summary << "\n";
  return quern::tool::Success;
}
} // namespace

int main(int argc, char **argv) {
  llvm::StringRef name = argc > 1 ? argv[1] : "--help";
  if (name == "--help" || name == "-h" || name == "help")
    return printHelp(llvm::outs());
  for (const Command &c : commands)
    if (c.name && name == c.name)
      return c.run(argc - 1, argv + 1);
  llvm::errs() << "quern: error: unknown command '" << name << "'\n\n";
  printHelp(llvm::errs());
  return quern::tool::Usage;
}
