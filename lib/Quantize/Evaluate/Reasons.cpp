//===- Reasons.cpp - What a run used, and why ------------------------------===//
//
// Text, formats, transforms, solver and allocation: a line of the report each, that names what was
// taken and what asked for it.
//
//===----------------------------------------------------------------------===//
#include "Quantization.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Path.h"
#include <set>

using namespace quern;
using namespace quern::quantize;
using llvm::StringRef;
namespace json = llvm::json;

/// The files' names, as statistics name them.
static std::string namesOf(llvm::ArrayRef<TextSource> texts) {
  std::string out;
  for (const TextSource &text : texts)
    out += (out.empty() ? "" : ", ") + llvm::sys::path::filename(text.path).str();
  return out.empty() ? "the built-in text" : out;
}

/// Why something was taken: it is the default, or `option` asked for it.
static std::string asked(bool isDefault, StringRef byDefault, StringRef option) {
  return isDefault ? (byDefault + ": the default").str()
                   : ("as asked for (" + option + ")").str();
}

/// All that any tensor could take, from few bits to many.
static std::string formatsOf(llvm::ArrayRef<Tensor> tensors) {
  std::set<std::pair<double, std::string>> known;
  std::set<std::string> seen;
  for (const Tensor &tensor : tensors)
    for (const Candidate &candidate : tensor.candidates)
      if (seen.insert(candidate.name).second)
        known.emplace(double(candidate.bytes) / double(std::max<int64_t>(1, tensor.rows * tensor.columns)),
                      candidate.name);
  bool spelled = llvm::any_of(seen, [](StringRef name) { return name.contains(','); });
  return llvm::join(llvm::make_second_range(known), spelled ? "; " : ", ");
}

json::Object Quantization::reasons() const {
  json::Object out;
  if (!options.statistics.empty())
    out["text"] = "statistics of " + llvm::sys::path::filename(options.statistics).str() +
                  " (--statistics)";
  else
    out["text"] = options.texts.empty() ? "no text was given (--text)" : "given (--text, --chat)";
  if (size_t searched = windows.count())
    out["measured"] = namesOf(options.texts) + ", " + std::to_string(searched) + " windows of " +
                      std::to_string(windows.window) + " tokens, and " +
                      std::to_string(heldBackWindows.count()) + " held back";
  std::string why;
  if (!options.format.empty())
    why = "one for all (--format)";
  else if (!options.allocation.empty())
    why = "of the file (--allocation)";
  else
    why = asked(options.formats.empty(),
                kind() == OutputKind::Gguf ? "to choose from in a GGUF file"
                                           : "to choose from in executables and IR",
                "--formats");
  if (!options.overrides.empty())
    why += ", some by their names (--override)";
  out["formats"] = formatsOf(candidates->tensors) + "; " + why;
  out["solver"] = asked(options.method == Method::Descent, "the least error", "--solver");
  if (isFixed())
    out["allocation"] = "none: nothing is left to choose";
  else
    out["allocation"] =
        options.engine + " over " + options.provider + " losses; " +
        asked(options.engine == "knapsack" && options.provider == "measured",
              "the least divergence for the bytes", "--engine, --provider");
  return out;
}
