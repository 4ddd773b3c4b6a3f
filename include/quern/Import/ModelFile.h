//===- ModelFile.h - A model as it lies on disk -----------------*- C++ -*-===//
//
// What every importer produces and every consumer reads: a directory of tensors
// (name, shape, format, where its bytes are), metadata, and the normalised
// hyper-parameters. No tensor data is read until asked for.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_IMPORT_MODELFILE_H
#define QUERN_IMPORT_MODELFILE_H

#include "quern/Format/Spec.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"
#include <map>
#include <string>
#include <vector>

namespace quern::import {

/// One physical file a model consists of.
struct SourceFile {
  std::string path;
  uint64_t size = 0;
};

/// One tensor: logical shape (outermost first, so a weight is [N, K] and an
/// expert stack [E, N, K]) and the byte range it occupies.
struct TensorInfo {
  std::string name; ///< in the file's own convention
  std::vector<int64_t> shape;
  format::Spec spec;      ///< how a number is stored
  std::string fileType;   ///< the file format's name for it: `Q4_K`, `BF16`
  unsigned file = 0;      ///< index into ModelFile::files
  uint64_t offset = 0;    ///< absolute, in that file
  uint64_t size = 0;
  int64_t elements() const;
};

enum class Container { GGUF, HuggingFace };

/// An opened model: GGUF (one or several split files) or a Hugging Face directory.
struct ModelFile {
  Container container;
  std::string path; ///< as the user named it, for messages
  std::vector<SourceFile> files;
  std::vector<TensorInfo> tensors; ///< in file order
  /// GGUF: its key-value pairs (arrays of strings included). Hugging Face: `config`,
  /// `generation_config`, `tokenizer`, `tokenizer_config`, `chat_template` documents.
  llvm::json::Object metadata;

  const TensorInfo *find(llvm::StringRef name) const;
};

/// Opens a GGUF file, a Hugging Face directory, or a single .safetensors file. Errors
/// name the file, the tensor or key, what was expected and what was found.
llvm::Expected<ModelFile> open(llvm::StringRef path);

/// Maps or reads the tensor's stored bytes; `out` is resized to info.size.
llvm::Error readTensor(const ModelFile &model, const TensorInfo &info, std::vector<uint8_t> &out);

} // namespace quern::import

#endif // QUERN_IMPORT_MODELFILE_H
