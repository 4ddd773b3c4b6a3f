//===- Inspect.h - What lies in a model file, for people and tools -*- C++ -*-===//
//
// The report behind `quern inspect`, the C API and Python.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_IMPORT_INSPECT_H
#define QUERN_IMPORT_INSPECT_H

#include "quern/Import/ModelFile.h"
#include "llvm/Support/raw_ostream.h"

namespace quern::import {

/// Tensors (name, canonical name, shape, type, format, bytes, file, offset), totals by type, files,
/// hyper-parameters where they can be read, and metadata. Long arrays of metadata are abbreviated
/// unless `full`.
llvm::json::Object inspect(const ModelFile &model, bool full = false);

/// The same as aligned text.
void printInspection(const ModelFile &model, bool full, llvm::raw_ostream &os);

/// Its first lines: how much there is of each type.
void printTotals(const ModelFile &model, llvm::raw_ostream &os);

/// Whether the file ends in a payload, as emitted executables, libraries and weights files do.
bool isProgram(llvm::StringRef path);

/// Its sections and the metadata it carries (checked against its hashes).
llvm::Expected<llvm::json::Object> inspectProgram(llvm::StringRef path);
void printProgram(const llvm::json::Object &report, llvm::raw_ostream &os);

/// A line for each object, with those of `name`, `shape`, `format`, `bits`, `bytes`, `layout`,
/// `activations` and `kernel` that any of them has.
void printTensorTable(const llvm::json::Array &tensors, llvm::raw_ostream &os);

} // namespace quern::import

#endif // QUERN_IMPORT_INSPECT_H
