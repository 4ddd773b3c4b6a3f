//===- Convert.h - From one model container to another ----------*- C++ -*-===//
//
// GGUF <-> Hugging Face: names, row orders, norm conventions, hyper-parameters and
// tokenizers are mapped both ways for the architectures Quern knows. Memory stays
// bounded by one tensor; outputs are written aside and then renamed.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_EXPORT_CONVERT_H
#define QUERN_EXPORT_CONVERT_H

#include "quern/Import/ModelFile.h"
#include <functional>
#include <optional>

namespace quern::exporter {

struct ConvertOptions {
  /// `f32` or `bf16`: decode every coded tensor to this type. Empty: keep.
  std::string dequantize;
  /// Encode the weight matrices to this type of the output's container (`Q8_0`, `BF16`, ...).
  std::string format;
  /// general.file_type of a GGUF file, ggml's number of a mix, in place of what the source says.
  std::optional<uint32_t> fileType;
  bool force = false; ///< overwrite what exists
  /// Called before each tensor is written; returning false cancels the conversion.
  std::function<bool(size_t done, size_t total, llvm::StringRef tensor)> progress;
  /// Told about tensors whose rows do not fit `format` and what they became instead.
  std::function<void(const std::string &)> note;
};

/// Writes `model` to `out`: a GGUF file if the name ends in `.gguf`, bare weights if it ends in
/// `.safetensors`, else a Hugging Face directory. GGUF to GGUF keeps all metadata and also joins
/// split files; any architecture will do. Between containers the architecture must be known.
llvm::Error convert(const import::ModelFile &model, llvm::StringRef out,
                    const ConvertOptions &options);

/// Bytes of the GGUF file that convert() would write.
llvm::Expected<uint64_t> ggufSize(const import::ModelFile &model, const ConvertOptions &options);

} // namespace quern::exporter

#endif // QUERN_EXPORT_CONVERT_H
