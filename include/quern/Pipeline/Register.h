//===- Register.h - Every dialect and pass in one place ---------*- C++ -*-===//
//
// What quern-opt, quern-translate and the driver load. A new dialect or pass library is
// one line in Register.cpp.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_PIPELINE_REGISTER_H
#define QUERN_PIPELINE_REGISTER_H

namespace mlir {
class DialectRegistry;
} // namespace mlir

namespace quern {

/// Registers the dialects that any phase reads or produces.
void registerDialects(mlir::DialectRegistry &registry);

/// Registers every pass and pass pipeline with MLIR's global table.
void registerPasses();

} // namespace quern

#endif // QUERN_PIPELINE_REGISTER_H
