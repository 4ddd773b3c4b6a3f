//===- DecoderBuilder.h - The words architectures are written in *- C++ -*-===//
//
// Builds the ops of one decoder. A tensor is named once, by its canonical name, where
// it is used; shapes are checked there. Errors are collected, so that one run
// reports all of them.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_ARCHITECTURES_DECODERBUILDER_H
#define QUERN_LIB_ARCHITECTURES_DECODERBUILDER_H

#include "mlir/IR/Builders.h"
#include "quern/Architectures/Architectures.h"
#include "quern/Dialect/Quern/IR/QuernOps.h"
#include "llvm/ADT/StringMap.h"
#include <set>

namespace quern::architectures {

using mlir::Value;

class DecoderBuilder;

/// One architecture: its name, and what one layer does to the hidden states.
struct Architecture {
  llvm::StringLiteral name;
  llvm::StringLiteral summary;
  Value (*layer)(DecoderBuilder &b, Value x);
};

// Each is defined in the file of its name.
extern const Architecture llama, qwen2, qwen3, qwen3moe, gemma3, phi3;

class DecoderBuilder {
public:
  DecoderBuilder(mlir::MLIRContext &context, const import::ModelFile &model,
                 const import::ModelConfig &config, const BuildOptions &options);

  /// Embeds, runs every layer, and ends in logits.
  llvm::Expected<mlir::OwningOpRef<mlir::ModuleOp>> build(const Architecture &architecture);

  /// The hyper-parameters, and which layer is being built.
  const import::ModelConfig &config;
  int64_t layer = 0;
  /// Whether this layer sees only the sliding window.
  bool isLocal() const { return config.isLocal(layer); }

  //===--- Ops with weights -----------------------------------------------===//
  // `name` lacks the layer's prefix `blk.N.` and the suffix `.weight`.

  enum class Bias { IfPresent, Required };

  /// x times `name` [rows, width of x]. A bias stored beside it is added.
  Value linear(Value x, llvm::StringRef name, int64_t rows, Bias bias = Bias::IfPresent);
  /// The same with rows [begin, begin + rows) of the weight `fused`, which has `fusedRows`.
  Value linearOfRows(Value x, llvm::StringRef name, llvm::StringRef fused, int64_t fusedRows,
                     int64_t begin, int64_t rows);
  /// Root mean square norm of whole rows, or of each head for a gain of headDim.
  Value rmsNorm(Value x, llvm::StringRef name);
  Value headNorm(Value x, llvm::StringRef name);
  /// Products with a stack of experts [experts, rows, width of x].
  Value expertLinear(Value x, llvm::StringRef name, int64_t rows, Value ids);

  //===--- Ops without ----------------------------------------------------===//

  Value rope(Value x);
  /// Writes k and v to the cache, and attends.
  Value attention(Value q, Value k, Value v);
  /// f(gate) * up with the model's activation.
  Value gated(Value gate, Value up);
  Value add(Value a, Value b);
  std::pair<Value, Value> route(Value logits);
  Value combineExperts(Value x, Value weights);

  //===--- What several architectures share -------------------------------===//

  /// q, k and v from `attn_q`, `attn_k`, `attn_v`.
  struct Heads {
    Value q, k, v;
  };
  Heads projectHeads(Value x);
  /// attn_output(attention(rope(q), rope(k), v))
  Value attend(const Heads &heads);
  /// ffn_down(gated(ffn_gate(x), ffn_up(x)))
  Value feedForward(Value x);

private:
  /// The value of a stored tensor of `shape`; records an error if the model has none.
  Value weight(llvm::StringRef fullName, llvm::ArrayRef<int64_t> shape);
  Value use(WeightOp weight);
  WeightOp declare(const import::TensorInfo &info, llvm::StringRef fullName);
  WeightOp declareView(WeightOp base, llvm::StringRef fullName, int64_t begin, int64_t rows);
  const import::TensorInfo *find(llvm::StringRef fullName, llvm::ArrayRef<int64_t> shape);
  /// Diagnostics about an op name the tensor or step it came from.
  mlir::Location at(const llvm::Twine &name) const;
  std::string inLayer(llvm::StringRef name) const;
  Value product(const llvm::Twine &name, Value x, Value weight, Value bias);
  ActivationFormat activationsFor(Value weight) const;
  int64_t widthOf(Value x) const;
  RopeAttr ropeFor(const import::RopeConfig &rope) const;
  void declareFiles();
  void addHyperParameters();
  /// Tensors that no op uses would change the result if the architecture had a place for them.
  void checkAllUsed();
  void fail(const llvm::Twine &message);

  const import::ModelFile &model;
  BuildOptions options;
  mlir::OpBuilder builder; ///< in the body of `forward`
  mlir::OpBuilder globals; ///< in the module, before `forward`
  mlir::Location loc;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  llvm::StringMap<WeightOp> weights;
  llvm::StringMap<Value> values; ///< weights used so far
  /// Where the bytes used so far begin: (file, offset) of every segment.
  std::set<std::pair<unsigned, uint64_t>> used;
  std::vector<std::string> errors;
  Value tokens, positions, sequences, outputs, cache;
};

} // namespace quern::architectures

#endif // QUERN_LIB_ARCHITECTURES_DECODERBUILDER_H
