//===- WeightData.h - Reads the data behind quern.weight --------*- C++ -*-===//
//
// A weight names byte ranges of files; here they become rows of Components, a few at a
// time, so that memory stays bounded whatever a tensor's size.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_PIPELINE_WEIGHTDATA_H
#define QUERN_PIPELINE_WEIGHTDATA_H

#include "mlir/IR/SymbolTable.h"
#include "quern/Dialect/Quern/IR/QuernOps.h"
#include "quern/Format/FileType.h"
#include "llvm/ADT/StringMap.h"
#include <mutex>

namespace quern {

/// Opened files of one module. Thread-safe.
class WeightData {
public:
  explicit WeightData(mlir::ModuleOp module) : symbols(module) {}
  ~WeightData();

  /// Rows [firstRow, firstRow + rows) of matrix `matrix` of the weight (0, but for stacks of
  /// experts), in the weight's own format. A 1-D weight is one row. Views are not
  /// accepted: read what they view.
  llvm::Error read(WeightOp weight, int64_t matrix, int64_t firstRow, int64_t rows,
                   format::Components &out);

  /// Rows that read() must be asked for at once (and in multiples of which rows must begin).
  static int64_t rowGranule(WeightOp weight);

private:
  llvm::Error readCanonical(WeightOp weight, llvm::ArrayRef<format::ComponentInfo> infos,
                            int64_t matrix, int64_t firstRow, int64_t rows,
                            format::Components &out);
  llvm::Error readStored(WeightOp weight, int64_t matrix, int64_t firstRow, int64_t rows,
                         format::Components &out);
  llvm::Error readWhole(WeightOp weight, int64_t matrix, format::Components &out);
  llvm::Error readBytes(WeightOp weight, uint64_t offset, llvm::MutableArrayRef<uint8_t> out);
  llvm::Expected<int> open(FileOp file);

  mlir::SymbolTable symbols;
  std::mutex mutex;
  llvm::StringMap<int> descriptors;
};

/// Matrices, rows and columns of a stored tensor: leading dimensions count matrices.
struct MatrixShape {
  int64_t matrices = 1, rows = 1, cols = 1;
  static MatrixShape of(mlir::RankedTensorType type);
};

} // namespace quern

#endif // QUERN_PIPELINE_WEIGHTDATA_H
