//===- LinearStrategy.h - Ways to multiply a step of weights ----*- C++ -*-===//
//
// The driver (LinearEmitter.cpp) owns the loops over panels, steps and tokens; a strategy
// emits what happens to one step: straight from the panel for one token, or
// unpacked once into scratch and then multiplied with blocks of tokens.
//
// Both ways perform the same operations in the same order on an accumulator, so that a token's
// result does not depend on how many others it came with. Tiles (LinearTiles.h) keep to that with
// q8 activations; with int8 and bf16 they sum in an order of their own.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_CONVERSION_LINEARSTRATEGY_H
#define QUERN_LIB_CONVERSION_LINEARSTRATEGY_H

#include "LinearWeights.h"
#include "quern/Conversion/LinearEmitter.h"
#include <memory>

namespace quern::conversion::detail {

/// The activations as the kernel's argument holds them.
struct ActivationSource {
  ActivationSource(Value buffer, const ActivationLayout &layout)
      : buffer(buffer), layout(layout),
        stride(layout.kind == Activation::F32 ? layout.k : layout.bytes) {}

  Value buffer;
  ActivationLayout layout;
  /// Where token `token` starts, in elements of the buffer. `buffer` is one-dimensional.
  Value tokenStart(VectorCode &v, Value token) const {
    return v.add(v.mul(token, stride), layout.base);
  }
  int64_t tokenStride() const { return stride; }

  /// The columns in front that are not rounded, as f32 activations of their own.
  ActivationSource plainColumns(VectorCode &v) const {
    auto bytes = mlir::cast<mlir::MemRefType>(buffer.getType());
    auto type = mlir::MemRefType::get({bytes.getNumElements() / 4}, v.b.getF32Type());
    ActivationSource out(
        mlir::memref::ViewOp::create(v.b, v.loc, type, buffer, v.index(0), mlir::ValueRange()),
        ActivationLayout::get(Activation::F32, layout.plain));
    out.stride = layout.bytes / 4;
    return out;
  }

private:
  int64_t stride;
};

/// Steps of consecutive panels in the scratch: those of panel i from slot i * stepsPerBlock() on.
struct UnpackedSteps {
  int64_t panels;
  Value count;       ///< of each panel
  StepExtent extent; ///< of each
  Value column;      ///< of the row, where slot 0 begins
};

/// Consecutive tokens that pass over unpacked steps together.
struct TokenBlock {
  int64_t count;
  Value start;          ///< of the first in x
  Value sums, firstSum; ///< where their sums of the first panel are: [token][16 rows], f32
  int64_t panelSums;    ///< from there to the sums of the next panel, in floats
};

class Strategy {
public:
  Strategy(VectorCode &v, const format::PackedLayout &layout, WeightReader &weights,
           const ActivationSource &x)
      : v(v), layout(layout), weights(weights), x(x) {}
  virtual ~Strategy() = default;

  /// Steps unpacked together before tokens are run over them.
  virtual int64_t stepsPerBlock() const = 0;
  /// Panels for which `direct` runs side by side.
  virtual int64_t panelsAtOnce() const { return 1; }
  /// Panels that are unpacked, and multiplied with blocks of tokens, together.
  virtual int64_t panelsPerPass() const { return 1; }
  /// Tokens for which a panel is unpacked once: as many as keep their activations in the
  /// second-level cache, from which every panel reads them again.
  virtual int64_t tokensPerSuperblock() const { return 64; }
  /// Whether what is unpacked next is fetched while tokens are multiplied: where the weights are so
  /// large that unpacking waits for them.
  virtual bool fetchesAhead() const { return false; }
  /// How many tokens may share one pass over unpacked weights of so many panels, largest first;
  /// one always may.
  virtual llvm::SmallVector<int64_t> tokenBlocks(int64_t panels) const = 0;
  /// Fewest tokens for which tile registers are used; 0 for a strategy without.
  virtual int64_t tokensForTiles() const { return 0; }
  virtual void configureTiles() {}
  virtual void releaseTiles() {}
  /// Allocates scratch; called once, in the entry block.
  virtual void allocate() = 0;

  /// One step for one token (starting at `token` in x): returns the new accumulators.
  virtual Parts direct(const StepPosition &at, Value token, Parts acc) = 0;
  /// Unpacks a step into slot `slot` of the scratch.
  virtual void unpack(const StepPosition &at, Value slot) = 0;
  /// Adds the products of all unpacked steps to the block's sums.
  virtual void multiply(const UnpackedSteps &steps, const TokenBlock &block) {
    multiplySlots(v.index(0), steps.count, steps, block);
  }
  /// Applied to an accumulator once its row is done.
  virtual Parts finish(Value token, Parts acc) { return acc; }

protected:
  /// `multiply` for the slots [from, to), by `blocked`.
  void multiplySlots(Value from, Value to, const UnpackedSteps &steps, const TokenBlock &block);
  /// A token's sums, of one panel after the other.
  Parts loadSums(const TokenBlock &block, int64_t token, int64_t panels = 1);
  void storeSums(const TokenBlock &block, int64_t token, llvm::ArrayRef<Value> parts);

  /// The columns from `column` on, unpacked in `slot` (and of further panels in slots
  /// stepsPerBlock() apart), for several tokens.
  virtual llvm::SmallVector<Parts> blocked(Value slot, StepExtent extent, Value column,
                                           llvm::ArrayRef<Value> tokens,
                                           llvm::SmallVector<Parts> acc) = 0;

  VectorCode &v;
  const format::PackedLayout &layout;
  WeightReader &weights;
  const ActivationSource &x;
};

/// Integer products of codes with int8 activations; null if the format or activations rule it out.
std::unique_ptr<Strategy> makeIntegerStrategy(VectorCode &v, const format::PackedLayout &layout,
                                              WeightReader &weights, const ActivationSource &x);
/// Decodes weights to f32. For every format.
std::unique_ptr<Strategy> makeFloatStrategy(VectorCode &v, const format::PackedLayout &layout,
                                            WeightReader &weights, const ActivationSource &x);

} // namespace quern::conversion::detail

#endif // QUERN_LIB_CONVERSION_LINEARSTRATEGY_H
