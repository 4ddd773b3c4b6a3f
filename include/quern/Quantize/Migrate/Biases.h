//===- Biases.h - Constants that products add -------------------*- C++ -*-===//
#ifndef QUERN_QUANTIZE_MIGRATE_BIASES_H
#define QUERN_QUANTIZE_MIGRATE_BIASES_H

#include "quern/Quantize/Migrate/ScaleSites.h"
#include "quern/Quantize/Migrate/WeightStore.h"

namespace quern::migrate {

/// Adds a number for each row to the bias of a product, which gets one where it has none. False where
/// others share the bias, which then stays; a remark says so.
llvm::Expected<bool> addToBias(LinearOp linear, llvm::ArrayRef<double> rows,
                               const WeightReaders &readers, WeightStore &store);

} // namespace quern::migrate

#endif // QUERN_QUANTIZE_MIGRATE_BIASES_H
