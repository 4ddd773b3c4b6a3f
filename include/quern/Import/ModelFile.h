//===- ModelFile.h - A model as it lies on disk -----------------*- C++ -*-===//
//
// What every importer produces and every consumer reads: a directory of tensors
// (name, shape, format, where its bytes are) and metadata. No tensor data is read
// until asked for.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_IMPORT_MODELFILE_H
#define QUERN_IMPORT_MODELFILE_H

#include "quern/Format/Spec.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"
#include <memory>
#include <string>
#include <vector>

namespace quern::import {

/// One physical file a model consists of.
struct SourceFile {
  std::string path;
  uint64_t size = 0;
};

/// A run of bytes in one of the model's files.
struct Segment {
  unsigned file = 0;   ///< index into ModelFile::files
  uint64_t offset = 0; ///< absolute, in that file
  uint64_t size = 0;
};

/// One tensor: logical shape (outermost first, so a weight is [N, K] and an
/// expert stack [E, N, K]) and the byte range it occupies.
struct TensorInfo {
  std::string name;      ///< in the file's own convention
  std::string canonical; ///< the container-independent name, see canonicalName()
  std::vector<int64_t> shape;
  format::Spec spec;     ///< how a number is stored; meaningful only if `decodable`
  bool decodable = true; ///< false for types that are listed but never weights (BOOL, U64)
  std::string fileType;  ///< the file format's name for it: `Q4_K`, `BF16`
  unsigned file = 0;     ///< index into ModelFile::files
  uint64_t offset = 0;   ///< absolute, in that file
  uint64_t size = 0;     ///< of all segments together
  /// The pieces, in order, of a tensor that is not contiguous (experts stored one by one and seen
  /// as a stack); empty when the one range above is all of it.
  std::vector<Segment> pieces;

  int64_t elements() const;
  /// `pieces`, or the one range.
  std::vector<Segment> segments() const;
};

enum class Container { GGUF, HuggingFace };

/// The value types of GGUF metadata, with the numbers the file format gives them.
enum class MetadataType : uint8_t {
  UInt8,
  Int8,
  UInt16,
  Int16,
  UInt32,
  Int32,
  Float32,
  Bool,
  String,
  Array,
  UInt64,
  Int64,
  Float64
};

/// A metadata key in file order with its type, which JSON does not keep.
struct MetadataKey {
  std::string key;
  MetadataType type = MetadataType::String;
  MetadataType element = MetadataType::String; ///< of an Array
};

/// An opened model: GGUF (one or several split files) or a Hugging Face directory.
struct ModelFile {
  Container container = Container::GGUF;
  std::string path; ///< as the user named it, for messages
  std::vector<SourceFile> files;
  std::vector<TensorInfo> tensors; ///< in file order
  std::vector<TensorInfo> stacks;  ///< tensors composed of others: expert stacks
  /// GGUF: its key-value pairs (arrays of strings included). Hugging Face: `config`,
  /// `generation_config`, `tokenizer`, `tokenizer_config` (JSON documents), `chat_template` (a
  /// string) and `safetensors` (the `__metadata__` of the weights), each if present.
  llvm::json::Object metadata;
  std::vector<MetadataKey> metadataKeys; ///< GGUF only

  /// The tensor of this name, canonical (`blk.0.attn_q.weight`, whatever the container) or the
  /// file's own; null when there is none.
  const TensorInfo *find(llvm::StringRef name) const;

  /// Fills in canonical names and stacks and the index behind find(). Called by open().
  llvm::Error indexTensors(llvm::StringRef architecture);

private:
  llvm::StringMap<std::pair<bool, unsigned>> index; ///< name -> (in `stacks`, position)
};

/// Opens a GGUF file, a Hugging Face directory, or a single .safetensors file. Errors
/// name the file, the tensor or key, what was expected and what was found.
llvm::Expected<ModelFile> open(llvm::StringRef path);

/// Reads the tensor's stored bytes; `out` is resized to info.size.
llvm::Error readTensor(const ModelFile &model, const TensorInfo &info, std::vector<uint8_t> &out);

/// Decodes `rows` stored rows of a tensor that is `decodable`; `out` has rows x cols values.
llvm::Error decodeRows(const TensorInfo &info, llvm::ArrayRef<uint8_t> bytes, int64_t rows,
                       int64_t cols, llvm::MutableArrayRef<float> out);

/// A tensor's stored bytes: mapped from the file where they are contiguous, else a copy.
class TensorBytes {
public:
  llvm::ArrayRef<uint8_t> bytes() const { return view; }

private:
  friend llvm::Expected<TensorBytes> mapTensor(const ModelFile &, const TensorInfo &);
  llvm::ArrayRef<uint8_t> view;
  std::shared_ptr<void> owner;
};

/// Maps the tensor read-only. No anonymous memory is used for a contiguous tensor; the mapping
/// lives as long as the result.
llvm::Expected<TensorBytes> mapTensor(const ModelFile &model, const TensorInfo &info);

/// The container-independent name of a tensor: GGUF's (`blk.3.ffn_down.weight`). Returns
/// `name` itself where no rule applies. `architecture` matters only where two of them use one
/// Hugging Face name for different things.
std::string canonicalName(llvm::StringRef name, llvm::StringRef architecture);

/// The other way: the Hugging Face name of a canonical one; empty if it has none.
std::string huggingFaceName(llvm::StringRef canonical, llvm::StringRef architecture);

} // namespace quern::import

#endif // QUERN_IMPORT_MODELFILE_H
