//===- Quantize.h - From a float model and a budget to a file ---*- C++ -*-===//
//
// What `quern quantize` does: statistics, candidates in every format, their expected loss, the
// knapsack, and the file.
//
// A provider says what a tensor is expected to lose in each format (Sensitivity.h). By `measured`
// one candidate of it is measured in the float program; where the assignment chooses another
// format, that one is measured, too, and the choice made again.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_QUANTIZE_QUANTIZE_H
#define QUERN_QUANTIZE_QUANTIZE_H

#include "quern/Quantize/Allocation.h"
#include "quern/Quantize/Calibrate.h"
#include "quern/Quantize/Solver.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"
#include <functional>

namespace quern::quantize {

struct QuantizeOptions {
  std::string model; ///< a file or, for IR and executables, IR of floats
  std::string output;
  std::string statistics; ///< a file of `quern calibrate`; empty: calibrates with `text`
  /// For calibration and measuring; calibration text alone, never others. None: the built-in one.
  std::vector<TextSource> texts;
  /// Folder of candidates and measurements, kept: another run finds there what it needs. Empty: a
  /// temporary one.
  std::string work;
  /// Bytes of candidates that the folder may hold before and after a run; those that were not used
  /// for longest go.
  uint64_t workLimit = 20'000'000'000;
  uint64_t size = 0;                ///< bytes of the output, at most; or
  double bits = 0;                  ///< stored bits per weight over all tensors, at most; or
  double maxKl = 0;                 ///< mean divergence on held-back windows, at most; or
  double tokensPerSecond = 0;       ///< of decoding, by a cost model of time, at least; or
  uint64_t bitOperations = 0;       ///< of a token's products, at most; or
  std::string format;               ///< this format for all tensors; or
  std::string allocation;           ///< a file of allocationOf: a format for each
  std::vector<std::string> formats; ///< to choose from; empty: what docs/Quantizing.md lists
  std::vector<std::pair<std::string, std::string>> overrides; ///< name pattern, format or `keep`; last wins
  std::vector<std::string> targets;    ///< of an executable; empty: the portable set
  /// First, in order; see Quantize/Transform.h.
  std::vector<std::string> transforms;
  /// How they enter products with coded weights, of a program or IR: as CompileOptions has it.
  std::string activations = "fast";
  /// Of a program or IR, as CompileOptions has them.
  std::string kvCache;
  int64_t context = 0;
  /// Round what was chosen once more, part by part, each for what the quantized parts before it let
  /// through. Costs two more runs of the calibration text.
  bool sequential = false;
  bool correctBiases = false; ///< of IR: correctBiases(), set by the transform `biases`
  Method method = Method::Descent;
  std::string engine = "knapsack";
  std::string provider = "measured"; ///< of Sensitivity.h
  double damping = defaultDamping;
  uint64_t seed = 1; ///< of what providers draw at random
  /// See Cost.h; empty: what the budget asks for, else none.
  std::string cost;
  /// Seconds after which nothing is measured any more and tensors are rounded to nearest; what is
  /// known then is used. The one option that makes the result depend on the machine. 0: none.
  double timeLimit = 0;
  /// Of the text, for statistics; 0: all, or fewer where a model is large, so that it takes minutes.
  uint64_t calibrationTokens = 0;
  /// Of the text, for `measured`; 0: 8192, or fewer where a model is large, so that measuring all of
  /// it takes minutes; times `measureEffort`.
  uint64_t measureTokens = 0;
  unsigned measureEffort = 1;
  unsigned threads = 0;
  bool allowRequantize = false, dryRun = false, force = false;
  /// Put the recipe, with hashes of all inputs, into the report.
  bool recipe = false;
  /// Hashes that the inputs must have, of a recipe; empty: any.
  llvm::json::Object expectedInputs;
  std::function<bool(llvm::StringRef phase, double fraction)> progress;
  std::function<void(const std::string &)> note;
};

/// How well each provider orders what is measured: all candidates of all tensors are measured, and
/// each provider asked for its losses. The report: Spearman's rank correlation with the measured
/// divergences over all candidates, and its mean over the formats, among the tensors of one.
/// Options of the budget and the output do not count.
llvm::Expected<llvm::json::Object> compareProviders(const QuantizeOptions &options);

/// Quantizes. The report: what was chosen and why, tensor by tensor.
llvm::Expected<llvm::json::Object> quantize(const QuantizeOptions &options);

/// The options as a JSON object, by their names on the command line; what does not change the
/// output is left out.
llvm::json::Object recipeOf(const QuantizeOptions &options);
/// Hashes of the contents of model, text and statistics.
llvm::Expected<llvm::json::Object> hashInputs(const QuantizeOptions &options);

/// The report as a table.
void printReport(const llvm::json::Object &report, llvm::raw_ostream &os);

/// A list of formats: `Q4_K,Q6_K`, one spelling, or several things with semicolons between them.
std::vector<std::string> splitFormats(llvm::StringRef text);

/// `80MB` (1e6), `80MiB` (2^20), `80000000`, also k and G.
llvm::Expected<uint64_t> parseSize(llvm::StringRef text);

} // namespace quern::quantize

#endif // QUERN_QUANTIZE_QUANTIZE_H
