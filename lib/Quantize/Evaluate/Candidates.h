//===- Candidates.h - Every tensor in every format ---------------*- C++ -*-===//
//
// Solves a model's matrices in the formats to choose from and keeps the results as files, stored as
// Format/Matrix.h says. A choice among them is a model like any other: the source with some
// tensors replaced. Private to lib/Quantize.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_EVALUATE_CANDIDATES_H
#define QUERN_LIB_QUANTIZE_EVALUATE_CANDIDATES_H

#include "ModelSource.h"
#include "Store.h"
#include "quern/Format/Matrix.h"
#include "quern/Quantize/Quantize.h"
#include "quern/Quantize/Sensitivity.h"
#include "quern/Quantize/Statistics.h"
#include <chrono>

namespace quern::quantize {

/// When a search has to come to an end.
struct Deadline {
  using Clock = std::chrono::steady_clock;
  Clock::time_point end = Clock::time_point::max();
  bool passed() const { return end != Clock::time_point::max() && Clock::now() >= end; }
};

struct Candidate {
  format::Spec spec;
  std::string name;   ///< format::formatName(spec)
  uint64_t work = 0;  ///< by the cost model
  std::string key;    ///< in the store, whose payload are its bytes, rows in the source's order
  uint64_t bytes = 0; ///< stored
  double error = 0;   ///< tr(dW H dW^T)
  double nearestError = 0;
  double loss = 0; ///< expected, as the provider says
  double kl = -1;  ///< measured; negative: not measured
};

struct Tensor {
  size_t index = 0;              ///< in ModelFile::tensors, or stacks
  bool composed = false;         ///< of those: its experts are tensors of their own
  std::string name;              ///< canonical
  int64_t rows = 0, columns = 0; ///< the rows of all experts
  int64_t experts = 1;           ///< matrices of a stack, each with a Hessian of its own
  int64_t usedRows = 0;          ///< that a token is multiplied with
  bool observed = false;         ///< there are statistics
  /// What enters each matrix, and how often its error counts.
  std::vector<Subject::Part> parts() const {
    return Subject::partsOf(inputs, double(usedRows) * double(experts) / double(rows));
  }
  bool isProduct = true;         ///< a token is multiplied with it; else only rows are looked up
  std::vector<int32_t> leading;  ///< of a column split: the columns of the first set
  /// Of each expert, or of the one matrix, once solved; null where nothing was seen.
  std::vector<const InputStatistics *> inputs;
  double damping = 0;            ///< that its Hessian needed, or the largest of its experts'
  std::vector<Candidate> candidates;
};

class Candidates {
public:
  /// Finds the matrices to be quantized and the formats each may have: any that the solver can
  /// round to, or with `gguf` those of GGUF's types alone.
  static llvm::Expected<Candidates> plan(const ModelSource &source,
                                         const QuantizeOptions &options, bool gguf);

  /// Solves what `store` does not hold yet; it must live as long as the candidates are used.
  /// What is not done at the deadline is rounded to nearest.
  llvm::Error solve(const Statistics &statistics, const QuantizeOptions &options,
                    const Store &store, const Deadline &deadline);
  /// Solves one candidate each of some tensors (their place and the candidate's) for other statistics.
  llvm::Error solveAgain(llvm::ArrayRef<std::pair<size_t, uint32_t>> chosen,
                         const Statistics &statistics, const QuantizeOptions &options);
  /// The values of a candidate.
  llvm::Expected<std::vector<float>> values(const Tensor &tensor, const Candidate &candidate) const;
  /// The model with tensor i as its candidate choice[i].
  import::ModelFile choose(llvm::ArrayRef<uint32_t> choice) const;

  /// Where the bytes of a candidate are: the first of that file.
  std::string pathOf(const Candidate &candidate) const { return store->path(candidate.key); }
  /// Where it came from.
  const import::TensorInfo &source(const Tensor &tensor) const {
    return tensor.composed ? model->stacks[tensor.index] : model->tensors[tensor.index];
  }

  std::vector<Tensor> tensors;

private:
  explicit Candidates(const import::ModelFile &model) : model(&model) {}
  llvm::Error solveTensor(Tensor &tensor, const QuantizeOptions &options);
  std::vector<const InputStatistics *> inputsOf(const Tensor &tensor, const Statistics &statistics,
                                                const QuantizeOptions &options);
  llvm::Error makeHessian(const Tensor &tensor, const InputStatistics *input,
                          const QuantizeOptions &options);
  const import::ModelFile *model;
  const Store *store = nullptr;
  // Tensors that share an input share its factored Hessian.
  const InputStatistics *hessianInput = nullptr;
  std::optional<Hessian> hessian;
};

/// All values of a tensor, decoded.
llvm::Expected<std::vector<float>> readValues(const import::ModelFile &model,
                                              const import::TensorInfo &info);

} // namespace quern::quantize

#endif // QUERN_LIB_QUANTIZE_EVALUATE_CANDIDATES_H
