//===- ScaleSites.h - Where channels may be scaled --------------*- C++ -*-===//
//
// x Wᵀ = (x / s) (W diag(s))ᵀ for any positive s over the channels of x. It is legal where
// everything that reads x is a product whose matrix nobody else reads, and the producer of x takes
// the 1/s into weights of its own that nobody else reads: the gain of a norm, the rows of
// the product that gives the linear operand of a gated activation, the rows of the product
// that gives the values of an attention.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_QUANTIZE_MIGRATE_SCALESITES_H
#define QUERN_QUANTIZE_MIGRATE_SCALESITES_H

#include "quern/Dialect/Quern/IR/QuernOps.h"

namespace quern::migrate {

/// What takes the inverse scale. Op: a quern.scale_channels in front of the products, for want of
/// anything else.
enum class Absorber : uint8_t { Norm, Gate, Attention, Op };

struct ScaleSite {
  mlir::Value input; ///< x, [tokens][K]
  /// Products that read x, in program order.
  llvm::SmallVector<WeightedOpInterface> consumers;
  /// Their stored matrices: no views, each once.
  llvm::SmallVector<WeightOp> matrices;
  Absorber absorber = Absorber::Norm;
  /// The norm; or the product whose rows take the inverse; or whatever makes x (Absorber::Op; null for
  /// an argument).
  mlir::Operation *producer = nullptr;
  /// Absorber::Gate: the product that makes the gated operand, if nobody else reads its rows.
  mlir::Operation *gateProducer = nullptr;
  /// Free scales: K, but for grouped queries, where query heads share those of their values.
  int64_t scales = 0;
  int64_t headDim = 0, headsPerGroup = 1; ///< of Absorber::Attention

  int64_t channels() const {
    return llvm::cast<mlir::RankedTensorType>(input.getType()).getShape().back();
  }
  /// Which scale channel `k` of x has.
  int64_t scaleOf(int64_t k) const {
    return absorber == Absorber::Attention ? k / headDim / headsPerGroup * headDim + k % headDim
                                           : k;
  }
};

/// An input of products whose channels may not be scaled, and the use that forbids it.
struct ScaleRefusal {
  mlir::Value input;
  mlir::Operation *product = nullptr; ///< the first one that reads it
  mlir::Operation *use = nullptr;     ///< what stands in the way
  std::string reason;                 ///< "'quern.add' (blk.0.add) reads the channels, too"
};

struct ScaleAnalysis {
  llvm::SmallVector<ScaleSite> sites;
  llvm::SmallVector<ScaleRefusal> refusals;
};

/// Examines every input of products in the module, in program order. With `explicitOps`, inputs whose
/// producer cannot absorb a scale, or that others read, too, are sites of Absorber::Op.
ScaleAnalysis findScaleSites(mlir::ModuleOp module, bool explicitOps = false);

/// One remark for each refusal, at the product.
void emitRemarks(const ScaleAnalysis &analysis);

/// The weight behind an operand, and what a view views.
WeightOp weightOf(mlir::Value operand, mlir::SymbolTable &symbols);
WeightOp baseOf(WeightOp weight, mlir::SymbolTable &symbols);

/// Who reads rows of stored tensors, by tensor.
class WeightReaders {
public:
  explicit WeightReaders(mlir::ModuleOp module);
  /// Ops that read any row of `weight` (a view's range of rows; of a whole tensor, all).
  llvm::SmallVector<mlir::OpOperand *> readers(WeightOp weight) const;

private:
  struct Reader {
    int64_t begin, end; ///< rows
    mlir::OpOperand *operand;
  };
  llvm::DenseMap<mlir::Operation *, llvm::SmallVector<Reader>> byBase;
  mutable mlir::SymbolTable symbols;
};

/// What a pass did, left on the module for whoever ran it (a pass's own statistics are not always
/// compiled in), and taken from there.
inline constexpr llvm::StringLiteral kCountsAttr = "quern.transform_counts";
void leaveCounts(mlir::ModuleOp module, llvm::ArrayRef<std::pair<llvm::StringRef, int64_t>> counts);
llvm::SmallVector<std::pair<std::string, int64_t>> takeCounts(mlir::ModuleOp module);

/// `'quern.add' (blk.0.add)`: an op for people.
std::string describe(mlir::Operation *op);

} // namespace quern::migrate

#endif // QUERN_QUANTIZE_MIGRATE_SCALESITES_H
