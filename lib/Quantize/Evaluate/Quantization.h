//===- Quantization.h - One run of quern quantize ----------------*- C++ -*-===//
//
// The state of a run, from reading the model to the file. Each file implements a part:
// Quantize.cpp the order of the steps and their inputs, Losses.cpp what formats cost and the choice
// among them, Budget.cpp what a file takes, Output.cpp the file, Report.cpp and Reasons.cpp what is
// said of it.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_EVALUATE_QUANTIZATION_H
#define QUERN_LIB_QUANTIZE_EVALUATE_QUANTIZATION_H

#include "Candidates.h"
#include "Streams.h"
#include "quern/Quantize/Allocation.h"
#include "quern/Quantize/Cost.h"
#include "quern/Quantize/Evaluate.h"
#include "quern/Quantize/Sensitivity.h"
#include "llvm/Support/MathExtras.h"
#include <chrono>

namespace mlir {
class ModuleOp;
}

namespace quern {
struct CompileOptions;
}

namespace quern::quantize {

/// GGUF begins every tensor at a multiple of this.
inline uint64_t padded(uint64_t bytes) { return llvm::alignTo(bytes, 32); }

/// What can be written. Where a file must not be larger than a size, the code of a program and the
/// text of IR count.
enum class OutputKind { Gguf, Module, Program };
constexpr OutputKind outputKinds[] = {OutputKind::Gguf, OutputKind::Module, OutputKind::Program};

/// Windows to search with, and those held back: a fifth, spread evenly, none of a single window.
llvm::Expected<std::pair<Windows, Windows>> divideWindows(const Windows &all);

class Quantization {
public:
  explicit Quantization(const QuantizeOptions &options) : options(options) {}
  llvm::Expected<llvm::json::Object> run();
  llvm::Expected<llvm::json::Object> compare();
  /// Compiles the model in the one format of the options.
  llvm::Expected<llvm::json::Object> compileIn(const CompileOptions &program);
  /// What can be known wrong before anything is read.
  llvm::Error checkOptions();

private:
  llvm::Error prepare(bool measures);
  llvm::Error readStatistics();
  double weightsToQuantize() const;
  uint64_t tokensToCalibrate() const;
  uint64_t tokensToMeasure() const;
  llvm::Error openProgram();
  llvm::Error openCost();
  llvm::Error findBudget();
  llvm::Error findSizeBudget();
  llvm::Error findWorkBudget();
  llvm::Error findSmallestFile(OutputKind kind);
  std::vector<uint32_t> smallestChoice(OutputKind kind) const;
  llvm::Error allocate();
  llvm::Expected<Assignment> search();
  llvm::Expected<Assignment> allocateWith(llvm::StringRef name, Engine run);
  llvm::Error measureChosen();
  llvm::Error measureCandidate(Tensor &tensor, Candidate &candidate);
  llvm::Expected<double> measureValues(const Tensor &tensor, llvm::StringRef key,
                                       llvm::ArrayRef<float> values);
  Subject subjectOf(const Tensor &tensor);
  llvm::Error findLosses();
  double lossOf(size_t tensor, size_t candidate) const {
    const Candidate &c = candidates->tensors[tensor].candidates[candidate];
    return c.kl >= 0 ? c.kl : c.loss;
  }
  llvm::Expected<double> measureAssignment(llvm::ArrayRef<uint32_t> choice, const Baseline &on);
  llvm::Error findSmallest();
  /// Nothing to choose.
  bool isFixed() const { return !options.format.empty() || !options.allocation.empty(); }
  bool measures() const { return !isFixed() && (provider->runs || options.maxKl > 0); }
  std::vector<Item> items() const;
  uint64_t bytesOf(llvm::ArrayRef<uint32_t> choice) const;
  uint64_t storedBytes(const Tensor &tensor, const Candidate &candidate, OutputKind kind) const;
  double secondsOf(llvm::ArrayRef<uint32_t> choice) const;
  uint64_t work(const Assignment &found) const { return found.work + (cost ? cost->other() : 0); }
  /// What the output's name asks for; a choice without an output is one for GGUF.
  OutputKind kind() const {
    llvm::StringRef name = options.output;
    if (name.empty() || name.ends_with(".gguf"))
      return OutputKind::Gguf;
    return name.ends_with(".mlirbc") || name.ends_with(".mlir") ? OutputKind::Module
                                                                : OutputKind::Program;
  }
  uint64_t &smallestBytes(OutputKind kind) { return smallest[size_t(kind)]; }
  uint32_t fileType(llvm::ArrayRef<uint32_t> choice) const;
  llvm::Error writeFile(const import::ModelFile &chosen, OutputKind kind, uint32_t fileType,
                        llvm::StringRef path, uint64_t &bytes);
  llvm::Error rewrite(mlir::ModuleOp module, const import::ModelFile &chosen,
                      llvm::StringRef folder);
  llvm::Expected<uint64_t> probe(OutputKind kind, llvm::ArrayRef<uint32_t> choice);
  llvm::Error write();
  llvm::Expected<bool> roundInOrder();
  CalibrateOptions calibrateOptions() const;
  llvm::json::Object report();
  llvm::json::Object reasons() const;
  int64_t cacheBytesOfToken() const;
  llvm::Error step(llvm::StringRef phase, double fraction) {
    if (options.progress && !options.progress(phase, fraction))
      return llvm::createStringError("cancelled");
    return llvm::Error::success();
  }

  const QuantizeOptions &options;
  ModelSource source;
  std::optional<Store> store;
  std::optional<Candidates> candidates;
  Statistics statistics;
  std::unique_ptr<Program> program;
  Windows windows, heldBackWindows;
  std::string textKey;            ///< of what is measured: the float model over the windows
  std::optional<Streams> streams; ///< of the windows
  std::optional<Baseline> baseline, heldBack;
  const ProviderInfo *provider = nullptr;
  uint64_t overhead = 0;     ///< bytes of the file beyond the tensors to be chosen
  uint64_t kernelBytes = 0;  ///< of code, for each pair of a format and a shape
  Limits budget;             ///< for those and their kernels
  uint64_t smallest[3] = {}; ///< bytes of a file of each kind; 0: impossible, or not found out
  std::unique_ptr<CostModel> cost; ///< null: bytes alone count
  Engine engine = nullptr;
  Assignment assignment;
  std::optional<Assignment> uniformAssignment;
  double kl = -1;         ///< of the assignment, on the text it was chosen with
  double heldBackKl = -1; ///< of the assignment, on windows held back
  uint64_t written = 0;
  size_t tries = 0; ///< files written for that
  int64_t corrected = 0; ///< biases of products
  Deadline deadline;
  bool outOfTime = false; ///< something was left out because of it
};

} // namespace quern::quantize

#endif // QUERN_LIB_QUANTIZE_EVALUATE_QUANTIZATION_H
