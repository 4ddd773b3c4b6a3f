//===- ScheduleBuilder.h - From the operations of forward to launches -*- C++ -*-===//
//
// Values become buffers; rope and residual sums happen in place. One builder makes the schedule for
// steps of one token, another the one for steps of many. Private to lib/Conversion.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_CONVERSION_SCHEDULEBUILDER_H
#define QUERN_LIB_CONVERSION_SCHEDULEBUILDER_H

#include "KernelOutliner.h"
#include "quern/Conversion/LinearDesc.h"
#include "quern/Dialect/Quern/IR/QuernOps.h"
#include "llvm/ADT/MapVector.h"

namespace quern {

/// Indices into the program's table of weights, by name, in the order of first use.
using WeightTable = llvm::MapVector<llvm::StringRef, int64_t>;

class ScheduleBuilder {
public:
  ScheduleBuilder(mlir::func::FuncOp forward, KernelOutliner &outliner, WeightTable &table,
                  const target::TargetInfo &target, int64_t maxTokens)
      : forward(forward), outliner(outliner), table(table), target(target), symbols(getModule()),
        maxTokens(maxTokens), single(maxTokens == 1), b(forward.getLoc(), forward.getContext()) {}

  mlir::LogicalResult run(llvm::StringRef name);

private:
  mlir::ModuleOp getModule() { return forward->getParentOfType<mlir::ModuleOp>(); }

  mlir::LogicalResult convert(mlir::Operation *op);
  mlir::LogicalResult convert(EmbeddingOp op);
  mlir::LogicalResult convert(LinearOp op);
  mlir::LogicalResult convert(ExpertLinearOp op);
  mlir::LogicalResult convert(RMSNormOp op);
  mlir::LogicalResult convert(LayerNormOp op);
  mlir::LogicalResult convert(RopeOp op);
  mlir::LogicalResult convert(AttentionOp op);
  mlir::LogicalResult convert(GatedActivationOp op);
  mlir::LogicalResult convert(AddOp op);
  mlir::LogicalResult convert(ScaleOp op);
  mlir::LogicalResult convert(ScaleChannelsOp op);
  mlir::LogicalResult convert(HadamardOp op);
  mlir::LogicalResult convert(SoftcapOp op);
  mlir::LogicalResult convert(TakeRowsOp op);
  mlir::LogicalResult convert(ObserveOp op);
  mlir::LogicalResult convert(BoundaryOp op);
  mlir::LogicalResult convert(RouteOp op);
  mlir::LogicalResult convert(CombineExpertsOp op);

  // Buffers and values.
  mlir::MemRefType rowsType(mlir::Value tensor);
  mlir::Value newBuffer(mlir::MemRefType type, bool isPrivate = false) {
    return kernel::BufferOp::create(b, type, isPrivate, mlir::IntegerAttr());
  }
  mlir::Value resultBuffer(mlir::Value tensor, bool isPrivate = false);
  mlir::Value buffer(mlir::Value tensor) { return buffers.lookup(tensor); }
  mlir::Value countOf(mlir::Value tensor) {
    mlir::Value count = counts.lookup(tensor);
    return count ? count : tokenCount;
  }
  bool isPrivate(mlir::Value buffer) {
    auto op = buffer.getDefiningOp<kernel::BufferOp>();
    return op && op.getIsPrivate();
  }
  mlir::Value constantUnits(int64_t n);
  mlir::Value arrayOf(kernel::StepArray array, mlir::Type element, llvm::ArrayRef<int64_t> shape) {
    return kernel::StepArrayOp::create(b, mlir::MemRefType::get(shape, element), array);
  }
  mlir::Value weight(mlir::Value use, mlir::Type element);
  mlir::FailureOr<mlir::Value> panels(mlir::Value use, mlir::MemRefType &type);
  mlir::Value cachePart(AttentionOp op, int64_t offset, int64_t bytes, mlir::Type element);
  /// The form in which a product with `weight` reads its activations: `fast` is resolved.
  struct Form {
    kernel::Activation kind;
    int bits = 8; ///< of integer codes
    mlir::FloatAttr staticScale = {}, outlierThreshold = {};
    int32_t staticZero = 0;
    bool operator==(const Form &) const = default;
  };
  mlir::FailureOr<Form> formOf(ActivationFormat format, mlir::Value weight);
  /// The activations of a product in its form, quantized once for all that read them; in the order
  /// of the weight's columns if that is a split.
  mlir::Value activations(mlir::Value x, const Form &form, mlir::Value weight);
  /// Where x in this form is kept; null until it has been made.
  mlir::Value &inForm(mlir::Value x, const Form &form);
  /// x where it is at least as large as the threshold, else 0.
  mlir::Value outliers(mlir::Value x, mlir::FloatAttr threshold);
  mlir::Value takeColumns(mlir::Value x, mlir::Value weight);
  mlir::Value ropeTable(RopeAttr rope);

  // Launches.
  LaunchShape rows(mlir::Value tensor, bool replicated = false) {
    return {kernel::Domain::Rows, countOf(tensor), countOf(tensor), replicated};
  }
  /// Work on `perToken` heads of each token. One token: by kv head, as attention reads them.
  /// Sets `scale` to the heads of a unit.
  LaunchShape heads(mlir::Value tensor, int64_t perToken, int64_t &scale) {
    int64_t kvHeads = mlir::cast<KvCacheType>(forward.getArgument(4).getType()).getKvHeads();
    if (!single || perToken % kvHeads) {
      scale = perToken;
      return rows(tensor);
    }
    scale = perToken / kvHeads;
    return {kernel::Domain::Heads, constantUnits(kvHeads), tokenCount};
  }
  LaunchShape panelsOf(mlir::Value tensor, int64_t columns) {
    return {kernel::Domain::Panels, constantUnits((columns + 15) / 16), countOf(tensor)};
  }
  void launch(llvm::StringRef name, llvm::ArrayRef<BufferUse> uses, const LaunchShape &shape,
              llvm::function_ref<void(KernelBody &)> body) {
    outliner.launch(b, b.getLoc(), single ? name.str() : name.str() + "_many", uses, shape, body);
  }
  /// Whether every thread had better compute the result for itself: one row that only products
  /// (which every thread takes part in) read.
  bool replicable(mlir::Value result) {
    return single && llvm::all_of(result.getUsers(), [](mlir::Operation *user) {
             return mlir::isa<LinearOp, ExpertLinearOp>(user);
           });
  }
  bool joinsResidual(LinearOp op, AddOp &sum, mlir::Value &residual);

  mlir::func::FuncOp forward;
  KernelOutliner &outliner;
  WeightTable &table;
  const target::TargetInfo &target;
  mlir::SymbolTable symbols;
  int64_t maxTokens;
  bool single;
  mlir::ImplicitLocOpBuilder b;

  mlir::Value tokenCount, outputCount, tokens, positions, sequences, outputs;
  llvm::DenseMap<mlir::Value, mlir::Value> buffers, counts;
  /// By f32 buffer and number of the form in `forms`.
  llvm::DenseMap<std::pair<mlir::Value, int>, mlir::Value> quantized;
  llvm::SmallVector<Form> forms;
  llvm::DenseMap<mlir::Attribute, mlir::Value> ropeTables;
  llvm::DenseMap<int64_t, mlir::Value> units;
  llvm::DenseSet<mlir::Operation *> done; ///< converted together with another operation
  mlir::Value logits;                     ///< the model's result
};

/// A kernel's name: what it does and the sizes it is for.
std::string shapeName(llvm::StringRef stem, llvm::ArrayRef<int64_t> shape);

} // namespace quern

#endif // QUERN_LIB_CONVERSION_SCHEDULEBUILDER_H
