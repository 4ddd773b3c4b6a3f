//===- InspectModule.h - What model-level IR holds --------------*- C++ -*-===//
//
// `quern inspect` for what --emit=mlir and --emit=bytecode write.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_PIPELINE_INSPECTMODULE_H
#define QUERN_PIPELINE_INSPECTMODULE_H

#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

namespace quern {

/// Whether the file is MLIR bytecode, or text by its name (*.mlir).
bool isModule(llvm::StringRef path);

/// Its files, weights (name, shape, format, bits, bytes, layout) and the number of its ops by name.
/// Errors: the file cannot be read, is not valid IR, holds no weights.
llvm::Expected<llvm::json::Object> inspectModule(llvm::StringRef path);
void printModule(const llvm::json::Object &report, llvm::raw_ostream &os);

} // namespace quern

#endif // QUERN_PIPELINE_INSPECTMODULE_H
