//===- FileType.h - How coded rows lie in files -----------------*- C++ -*-===//
//
// GGUF's tensor types: id, name, format, block size, and the mapping between the
// bytes of whole rows and Components. Rows are independent of each other, so a
// tensor can be read in slices of any number of rows.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_FORMAT_FILETYPE_H
#define QUERN_FORMAT_FILETYPE_H

#include "quern/Format/Components.h"

namespace quern::format {

struct BlockLayout; ///< Where each bit of a block lies; private to the implementation.

/// One tensor type of GGUF.
struct FileType {
  llvm::StringRef name;   ///< `Q4_K`
  unsigned id;            ///< ggml's number
  unsigned blockElements; ///< a row is a whole number of blocks
  unsigned blockBytes;
  Spec spec;
  const BlockLayout *layout;

  /// Bytes of a row of `cols` elements; an error if cols is not a multiple of blockElements.
  llvm::Expected<uint64_t> rowBytes(int64_t cols) const;

  /// Reads `rows` rows out of exactly rows x rowBytes(cols) bytes.
  llvm::Error unpack(llvm::ArrayRef<uint8_t> bytes, int64_t rows, int64_t cols,
                     Components &out) const;

  /// The inverse. pack(unpack(bytes)) == bytes for whatever a conforming writer makes (TQ1_0,
  /// where several bytes read as the same digits, gives the usual one).
  llvm::Error pack(const Components &components, llvm::MutableArrayRef<uint8_t> bytes) const;

  /// unpack and decode, without an intermediate bigger than a few rows. `out` has rows x cols.
  llvm::Error decode(llvm::ArrayRef<uint8_t> bytes, int64_t rows, int64_t cols,
                     llvm::MutableArrayRef<float> out) const;
};

/// All types, by id. Q8_1 and Q8_K, which hold only activations at run time, are absent.
llvm::ArrayRef<FileType> ggufTypes();
const FileType *ggufType(unsigned id);
const FileType *ggufType(llvm::StringRef name);
/// The type that stores `spec`, if any.
const FileType *ggufType(const Spec &spec);

//===--- Canonical layout -------------------------------------------------===//
// One byte array per component (see Size.h): what Quern itself writes for formats no file
// type has, and what a plain array (safetensors F32, BF16, F8_E4M3) is.

enum class Role : uint8_t { Codes, Scale, Offset, Zero, Table };

/// One component of a Base format in the canonical layout.
struct ComponentInfo {
  Role role = Role::Codes;
  unsigned level = 0; ///< of Scale, Offset, Zero
  int64_t rows = 0;   ///< rows of parameters (of codes: matrix rows)
  uint64_t bytesPerRow = 0;
  uint64_t size() const { return uint64_t(rows) * bytesPerRow; }
};

/// Codes first, then scale, offset and zero levels (outermost first), then a learned table.
std::vector<ComponentInfo> canonicalComponents(const Spec &spec, int64_t rows, int64_t cols);

/// Bytes of each of canonicalComponents, in that order, to and from Components. `firstRow` is
/// that of the slice: each array holds just the slice's rows (of tiles).
llvm::Error unpackCanonical(const Spec &spec, llvm::ArrayRef<llvm::ArrayRef<uint8_t>> arrays,
                            int64_t firstRow, int64_t rows, int64_t cols, Components &out);
llvm::Expected<std::vector<std::vector<uint8_t>>> packCanonical(const Spec &spec,
                                                                const Components &components);

/// A whole matrix of any format as one run of bytes: the arrays of canonicalComponents one after
/// another; of a sum or a split those of each term; then a split's permutation, i32 a column.
/// storedBytes says how many they are.
llvm::Expected<std::vector<uint8_t>> packWhole(const Spec &spec, const Components &components);
llvm::Error unpackWhole(const Spec &spec, llvm::ArrayRef<uint8_t> bytes, int64_t rows, int64_t cols,
                        Components &out);

} // namespace quern::format

#endif // QUERN_FORMAT_FILETYPE_H
