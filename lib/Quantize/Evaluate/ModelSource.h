//===- ModelSource.h - What is quantized: a file, or IR ----------*- C++ -*-===//
//
// A model file, or model-level IR as Pipeline/ModuleFile.h writes it, seen as a directory of tensors.
// IR says more than a file can: ops that rotate or scale while the program runs, and which columns
// of a matrix are to have another format. What is made of it is IR or a program. Private to
// lib/Quantize.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_EVALUATE_MODELSOURCE_H
#define QUERN_LIB_QUANTIZE_EVALUATE_MODELSOURCE_H

#include "Store.h"
#include "quern/Import/ModelFile.h"

namespace quern::quantize {

/// Of a matrix whose outlier columns have a format of their own (quern-split-columns).
struct ColumnSplit {
  std::vector<int32_t> leading; ///< the columns of the first set
  format::Spec spec;            ///< as the IR has it
  /// The same columns apart, with another format for the others.
  format::Spec with(const format::Spec &rest) const;
};

struct ModelSource {
  /// Errors name the file; IR with matrices that are quantized already is one.
  static llvm::Expected<ModelSource> open(llvm::StringRef path);

  import::ModelFile model;
  bool isModule = false;
  int64_t expertsUsed = 1;          ///< of a mixture: that a token goes to
  int64_t cacheHeads = 0, headDim = 0; ///< a token's keys and values: vectors of so many; 0: unknown
  llvm::StringMap<ColumnSplit> splits; ///< by matrix
  std::vector<uint8_t> tokenizer, chat; ///< of IR, as it carries them

  /// Adds the values of all weights, with their names, and of IR what is done with them.
  llvm::Error addTo(Key &key, bool names = true) const;
};

} // namespace quern::quantize

#endif // QUERN_LIB_QUANTIZE_EVALUATE_MODELSOURCE_H
