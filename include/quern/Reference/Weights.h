//===- Weights.h - The values of a stored weight ----------------*- C++ -*-===//
//
// Reads the components of a `quern.weight` from their files and decodes them to f32.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_REFERENCE_WEIGHTS_H
#define QUERN_REFERENCE_WEIGHTS_H

#include "quern/Dialect/Quern/IR/QuernOps.h"
#include "llvm/Support/Error.h"

namespace quern::reference {

/// All values of a weight that is not a view, row-major. Errors name the weight, and the file where
/// it is at fault. Not for packed panels, which only kernels read. `columns` receives the order in
/// which a column split of a matrix has its columns, in which activations are rounded in groups;
/// it is left alone for other formats.
llvm::Expected<std::vector<float>> decodeWeight(WeightOp weight,
                                                std::vector<int32_t> *columns = nullptr);

} // namespace quern::reference

#endif // QUERN_REFERENCE_WEIGHTS_H
