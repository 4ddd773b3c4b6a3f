//===- Recipe.h - Options as a file -----------------------------*- C++ -*-===//
//
// A recipe is a JSON object of options of `quern quantize` by their names on the command line,
// without dashes: {"bits": 4.5, "allow-requantize": true, "override": ["output.*=Q8_0"]}. That of a
// report also holds "inputs", hashes of what was in the files it names.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_QUANTIZE_RECIPE_H
#define QUERN_QUANTIZE_RECIPE_H

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"
#include <optional>
#include <string>
#include <vector>

namespace quern::quantize {

struct Recipe {
  struct Option {
    std::string name;
    std::optional<std::string> value; ///< none: a flag
  };
  std::vector<Option> options; ///< by name; several values of one in their order
  llvm::json::Object inputs;   ///< of a report: hashes by kind of input
};

/// Reads a recipe: a shipped one (fast, balanced, best), or a file of one, or of a report. Whether
/// there are such options is for the command line to say.
llvm::Expected<Recipe> readRecipe(llvm::StringRef name);

/// Fails, naming the input, where a hash differs.
llvm::Error checkInputs(const llvm::json::Object &expected, const llvm::json::Object &found);

} // namespace quern::quantize

#endif // QUERN_QUANTIZE_RECIPE_H
