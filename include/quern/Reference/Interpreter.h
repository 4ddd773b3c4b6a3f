//===- Interpreter.h - Runs model-level IR ----------------------*- C++ -*-===//
//
// Executes `@forward` of a module op by op with the semantics of Ops.h. The oracle of
// whole compiled models.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_REFERENCE_INTERPRETER_H
#define QUERN_REFERENCE_INTERPRETER_H

#include "mlir/IR/BuiltinOps.h"
#include "quern/Reference/Activations.h"
#include "llvm/Support/Error.h"
#include <memory>

namespace quern::reference {

struct InterpreterOptions {
  int64_t sequences = 1; ///< slots of the KV cache
  /// What `fast` activations mean; without it what all CPU targets take: q8 where weights have
  /// integer products (format::prefersInt8Activations), else bf16.
  std::optional<ActivationFormat> fast;
  /// Overrides every product's activation format.
  std::optional<ActivationFormat> activations;
};

/// Tokens to process in one call; all arrays but `outputs` have an entry a token.
struct InterpreterStep {
  llvm::ArrayRef<int32_t> tokens, positions, sequences;
  llvm::ArrayRef<int32_t> outputs; ///< the tokens whose logits are wanted, as indices
};

/// A loaded module with its KV cache. Weights are read and decoded when first used and kept as f32:
/// four bytes an element.
class Interpreter {
public:
  /// The module (and its context) must outlive the interpreter. Weight files with relative paths
  /// are looked for from the working directory.
  static llvm::Expected<std::unique_ptr<Interpreter>> create(mlir::ModuleOp module,
                                                             InterpreterOptions options = {});
  ~Interpreter();

  int64_t vocabulary() const;
  int64_t context() const; ///< positions of a sequence

  /// Logits [outputs][vocabulary]. Tokens, positions or slots out of range are errors; the cache may
  /// have taken some of the step's tokens then.
  llvm::Expected<std::vector<float>> forward(const InterpreterStep &step);

  /// `tokens` of slot 0 at positions first, first + 1, ...; logits of all of them.
  llvm::Expected<std::vector<float>> forward(llvm::ArrayRef<int32_t> tokens, int32_t first);

private:
  struct State;
  explicit Interpreter(std::unique_ptr<State> state);
  std::unique_ptr<State> state;
};

} // namespace quern::reference

#endif // QUERN_REFERENCE_INTERPRETER_H
