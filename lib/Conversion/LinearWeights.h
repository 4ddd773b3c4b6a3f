//===- LinearWeights.h - Reading packed weights in vector code --*- C++ -*-===//
//
// Emits the loads and unpacking of a panel's codes and levels, for any format: what a code
// stands for (as integers where that is exact), quads of bytes, columns of floats, level values.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_CONVERSION_LINEARWEIGHTS_H
#define QUERN_LIB_CONVERSION_LINEARWEIGHTS_H

#include "LinearBuilder.h"
#include "quern/Format/CodeMeaning.h"
#include "quern/Format/PackedLayout.h"
#include "llvm/ADT/DenseMap.h"

namespace quern::conversion::detail {

using format::CodeMeaning;

/// Columns [begin, end) of a step over which every level, and the activation scale where
/// `activationGroup` is not 0, is constant.
struct Segment {
  int64_t begin, end;
};
llvm::SmallVector<Segment> segments(const format::PackedLayout &layout, int64_t columns,
                                    int64_t activationGroup);

/// How many columns a step has: as stored (a multiple of 32), and before the padding of a row's
/// last step.
struct StepExtent {
  int64_t columns, present;
};

/// Where one step of one panel lies.
struct StepPosition : StepExtent {
  Value header; ///< byte offset of the panel
  Value chunk;  ///< of the chunk's levels
  Value codes;  ///< of the step's codes
  Value stepInChunk;
  Value column; ///< first column in the row
};

/// One segment's parameters, a value per part; null where the format has none.
struct SegmentLevels {
  Parts scale, offset, zero;
};

class WeightReader {
public:
  WeightReader(VectorCode &code, const format::PackedLayout &layout, Value weights);

  /// The position of step `step` (index) of panel `panel`; the tail if `tail` is set.
  StepPosition position(Value panel, Value step, bool tail);
  StepExtent extent(bool tail) const;

  /// The patterns of quad `quad` of the step, part `part`, a byte a column.
  Value quadPatterns(const StepPosition &at, int64_t quad, int64_t part);
  Value quadDigits(const StepPosition &at, int64_t quad, int64_t part);
  /// The dot product's operand for the same, and how it relates to values:
  /// value = multiplier x (operand - bias).
  Value quadOperand(const StepPosition &at, int64_t quad, int64_t part);
  DotOperand operand() const { return dotOperand; }
  float operandBias() const { return bias; }

  /// The decoded weights of column `column`, which lies in the segment of `levels`.
  Parts column(const StepPosition &at, int64_t column, const SegmentLevels &levels);
  /// Fetches ahead what the step after next needs, as far as the target wants.
  void prefetch(const StepPosition &at);
  /// Bytes from one step to the next, levels counted.
  int64_t bytesOfStep() const { return layout.chunkBytes / (layout.chunk / layout.step); }
  /// Fetches into the second cache `lines` cache lines of a panel from byte `at` + `constant` on.
  void prefetchLines(Value at, int64_t constant, int64_t lines) {
    for (int64_t i = 0; i < lines; ++i)
      v.prefetch(weights, at, constant + i * 64, 2);
  }

  SegmentLevels levels(const StepPosition &at, Segment segment);

  /// Forgets what was loaded: call when the insertion point leaves a block.
  void forget() { loaded.clear(); }

  const CodeMeaning meaning;

private:
  /// Decoded codes (before levels) of column `column`.
  Value columnValues(const StepPosition &at, int64_t column, int64_t part);
  Value tableIndex(const StepPosition &at, int64_t index, int64_t part);
  Value tableEntry(Value index, int64_t within);
  Value signs(Value index);
  Value tableQuad(const StepPosition &at, int64_t quad, int64_t part);
  Value tableColumn(const StepPosition &at, int64_t column, int64_t part);
  /// table[index] for each lane, from memory.
  Value gather(Value table, Value index, mlir::VectorType type);

  Value levelValue(const StepPosition &at, const format::PackedLevel &level, int64_t column,
                   int64_t part);
  Value smallFloat(format::FloatKind kind, Value bits);
  Value decodeNumber(const format::Number &number, bool biased, Value bits);

  VectorCode &v;
  const format::PackedLayout &layout;
  Value weights;
  DotOperand dotOperand;
  float bias = 0;
  llvm::SmallVector<int8_t> operandTable;
  /// Raw vectors of the current step by byte offset and part; reused between quads.
  llvm::DenseMap<std::pair<int64_t, int64_t>, Value> loaded;
};

} // namespace quern::conversion::detail

#endif // QUERN_LIB_CONVERSION_LINEARWEIGHTS_H
