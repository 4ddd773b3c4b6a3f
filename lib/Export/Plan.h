//===- Plan.h - What a conversion writes -------------------------*- C++ -*-===//
//
// The list of output tensors, each with where its values come from, and the
// metadata; made first, so that nothing is written unless all of it can be.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_EXPORT_PLAN_H
#define QUERN_LIB_EXPORT_PLAN_H

#include "quern/Export/Convert.h"
#include "quern/Format/FileType.h"
#include "quern/Import/ModelConfig.h"
#include "llvm/Support/raw_ostream.h"

namespace quern::exporter {

/// How an output stores numbers: a type of GGUF, or a plain array of safetensors.
struct StoredType {
  std::string name;
  format::Spec spec;
  const format::FileType *gguf = nullptr; ///< null: the plain (canonical) layout
  uint64_t blockElements = 1, blockBytes = 0;
};

/// A type of the container by its name in any case (`q8_0`, `BF16`); an error lists the choices.
llvm::Expected<StoredType> storedType(llvm::StringRef name, import::Container container);

struct OutTensor {
  std::string name;
  std::vector<int64_t> shape;
  StoredType type;
  uint64_t size = 0;

  // Values: those of `source` (of its expert `expert` only, if that is not negative), or `values`.
  const import::TensorInfo *source = nullptr;
  int64_t expert = -1;
  std::vector<float> values;
  /// Rows are those of this many rotary heads, to be reordered between the two pairings.
  int64_t heads = 0;
  bool toInterleaved = false;
  float addend = 0; ///< gemma's 1 + w
};

/// A GGUF key-value pair.
struct KeyValue {
  std::string key;
  import::MetadataType type = import::MetadataType::String;
  import::MetadataType element = import::MetadataType::String;
  llvm::json::Value value = nullptr;
};

struct Plan {
  std::vector<OutTensor> tensors;
  std::vector<KeyValue> keys;                                 ///< GGUF
  std::vector<std::pair<std::string, std::string>> documents; ///< Hugging Face: file name, contents
};

llvm::Expected<Plan> planGGUF(const import::ModelFile &model, const ConvertOptions &options);
/// `bare`: weights alone, without config.json and tokenizer.
llvm::Expected<Plan> planHuggingFace(const import::ModelFile &model, const ConvertOptions &options,
                                     bool bare);

/// The type a tensor of `shape` gets; falls back (with a note) where rows do not fit.
llvm::Expected<StoredType> chooseType(const import::ModelFile &model,
                                      const import::TensorInfo &source, import::Container container,
                                      bool vector, const ConvertOptions &options);
/// Fills in `size`.
llvm::Error finish(OutTensor &tensor);

/// Writes the stored bytes of one tensor.
llvm::Error writeTensor(const import::ModelFile &model, const OutTensor &tensor,
                        llvm::raw_ostream &os);

/// Everything before the first tensor, its padding included; sets `size` to that of the file.
llvm::Error writeGGUFHeader(const Plan &plan, llvm::raw_ostream &os, uint64_t &size);
llvm::Error writeGGUF(const import::ModelFile &model, const Plan &plan,
                      const ConvertOptions &options, llvm::raw_ostream &os);
llvm::Error writeSafetensors(const import::ModelFile &model, const Plan &plan,
                             const ConvertOptions &options, llvm::raw_ostream &os);

/// Hyper-parameters and tokenizer as GGUF keys, and the tensors that carry rope factors.
llvm::Error addGGUFMetadata(const import::ModelFile &model, const import::ModelConfig &config,
                            Plan &plan);
llvm::Error addGGUFTokenizer(const import::ModelFile &model, Plan &plan);
/// config.json and the tokenizer's documents.
llvm::Error addConfigDocuments(const import::ModelFile &model, const import::ModelConfig &config,
                               llvm::StringRef dtype, Plan &plan);
llvm::Error addTokenizerDocuments(const import::ModelFile &model, Plan &plan);

} // namespace quern::exporter

#endif
