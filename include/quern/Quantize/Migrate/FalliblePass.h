//===- FalliblePass.h - Passes that end with an llvm::Error -----*- C++ -*-===//
//
// The libraries that passes call say what went wrong as an llvm::Error; the pass says it at the op
// that it runs on.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_QUANTIZE_MIGRATE_FALLIBLEPASS_H
#define QUERN_QUANTIZE_MIGRATE_FALLIBLEPASS_H

#include "mlir/Pass/Pass.h"
#include "llvm/Support/Error.h"

namespace quern {

/// Between a pass and what tablegen makes of it: the pass has a run() in place of runOnOperation().
template <typename Generated> struct FalliblePass : Generated {
  using Base = FalliblePass;
  using Generated::Generated;

  virtual llvm::Error run() = 0;

  void runOnOperation() final {
    if (llvm::Error error = run()) {
      this->getOperation()->emitError(llvm::toString(std::move(error)));
      this->signalPassFailure();
    }
  }
};

} // namespace quern

#endif // QUERN_QUANTIZE_MIGRATE_FALLIBLEPASS_H
