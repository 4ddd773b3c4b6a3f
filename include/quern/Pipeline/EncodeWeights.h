//===- EncodeWeights.h - Chooses another format for weights -----*- C++ -*-===//
//
// `quern compile --format`: float matrices get the format asked for; the encoding
// itself happens when they are packed.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_PIPELINE_ENCODEWEIGHTS_H
#define QUERN_PIPELINE_ENCODEWEIGHTS_H

#include "quern/Dialect/Quern/IR/QuernOps.h"

namespace quern {

/// Gives every float matrix that a product or an embedding reads the format `spec`, but for those
/// that choose experts; its stored form stays as `NAME.stored`. Products with them then take
/// `activations`. Coded weights are left alone unless `codedToo`. A learned table or a column split
/// goes to whole matrices that are not views of each other, a split only where nothing but products
/// reads them: not to embeddings and experts.
llvm::Error encodeWeights(mlir::ModuleOp module, const format::Spec &spec,
                          ActivationFormat activations, bool codedToo = false);

} // namespace quern

#endif // QUERN_PIPELINE_ENCODEWEIGHTS_H
