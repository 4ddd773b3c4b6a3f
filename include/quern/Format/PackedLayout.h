//===- PackedLayout.h - Weights as the CPU kernels read them ----*- C++ -*-===//
//
// One physical layout serves every format of the algebra and every CPU target (AVX2, AVX-512
// VNNI, AMX, AArch64), so that a program carries its weights once.
//
// A matrix [N, K] is cut into panels of 16 rows (lane = row). A panel is
//
//   header   levels that cover whole rows, one entry a lane
//   chunks   of `chunk` columns, each: [levels, 16 lanes a group] [codes, step after step]
//
// Codes of at most 8 bits are grouped in quads of 4 consecutive columns: 16 lanes x 4 columns,
// 64 values. A B-bit code is split into bit planes of widths 8, 4, 2, 1 (6 = 4 + 2); a plane of
// width w holds 8 / w quads in 64 bytes, quad j in bits [j w, (j + 1) w) of each byte. Base-3
// digits come five quads to 64 bytes. Level numbers below 8 bits are stored in the same planes with
// one lane a byte. A step is the number of columns that the kernels process at once: a multiple of
// every plane's unit, and of every group or a divisor of it, unless that would make it large
// (groups of 248). Signed codes, and signed level numbers below 8 bits, are stored biased (c +
// 2^(B-1)).
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_FORMAT_PACKEDLAYOUT_H
#define QUERN_FORMAT_PACKEDLAYOUT_H

#include "quern/Format/Components.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/Support/Error.h"
#include <vector>

namespace quern::format {

/// Which list of Spec a level belongs to.
enum class LevelRole : uint8_t { Scale, Offset, Zero };

/// Where one plane of an integer lies and which of its bits it holds.
struct BitPlane {
  unsigned width; ///< 1, 2, 4 or 8; 16 and 32 for wide numbers, stored whole
  unsigned shift; ///< position of its bits in the integer
  int64_t offset; ///< bytes: codes: from the step's start; levels: from the chunk's (panel's) start
};

/// A level as packed.
struct PackedLevel {
  LevelRole role;
  unsigned index; ///< into the Spec's list
  Level level;
  int64_t groupColumns;   ///< columns that share a number; 0: the whole row, kept in the header
  int64_t groupsPerChunk; ///< 1 in the header
  llvm::SmallVector<BitPlane, 3> planes;
};

/// How codes are kept.
enum class CodeStorage : uint8_t {
  Planes, ///< at most 8 bits: quads in bit planes
  Digits, ///< ternary in base 3: byte b holds five digits; each is (3 b) >> 8, then b = 3 b mod 256
  Pairs16, ///< bf16: [k / 2][16 lanes][2]
  Words16, ///< other numbers of at most 16 bits: [k][16 lanes]
  Words32, ///< of at most 32 (f64 as f32): [k][16 lanes]
  Indices, ///< of tables: [k / values an index][16 lanes] in planes, one lane a byte
};

/// The layout of one matrix. A sum's panel holds one panel of each term; the entries of learned
/// tables follow the panels, as f32 or, if they are stored so, as f16 or bf16. So do the terms of a
/// column split, whose permutation comes last; kernels find x in its order (splitColumns says how
/// many columns a term has).
class PackedLayout {
public:
  static constexpr int64_t panelRows = 16;
  static constexpr int64_t digitsPerByte = 5; ///< of CodeStorage::Digits

  /// Fails for what the layout does not cover, naming it.
  static llvm::Expected<PackedLayout> get(const Spec &spec, int64_t n, int64_t k);

  int64_t bytes() const { return tableStart + tableBytes; }
  int64_t panels() const { return (n + panelRows - 1) / panelRows; }
  /// The smallest pieces of work that threads share: panels.
  int64_t workUnits() const { return panels(); }

  /// Writes panel `panel` (panelBytes bytes) from the rows that `rows` holds, which must include
  /// the panel's. Rows beyond N and columns beyond K are zero.
  llvm::Error packPanel(const Components &rows, int64_t panel,
                        llvm::MutableArrayRef<uint8_t> out) const;

  /// Writes the learned tables (tableBytes bytes, to be stored at tableStart).
  llvm::Error packTables(const Components &rows, llvm::MutableArrayRef<uint8_t> out) const;

  /// The inverse: sets what a panel holds in `rows`, which allocate() sized. Scales shared by
  /// several rows are the last row's.
  llvm::Error unpackPanel(llvm::ArrayRef<uint8_t> in, int64_t panel, Components &rows) const;
  llvm::Error unpackTables(llvm::ArrayRef<uint8_t> in, Components &rows) const;

  /// Planes of a step cut off after `columns` columns (a multiple of 32): offsets change, as a
  /// row's last step stores no more than it needs. Returns the bytes used.
  int64_t stepPlanes(int64_t columns, llvm::SmallVectorImpl<BitPlane> &planes) const;

  /// Whole steps in a row, and the columns (rounded up to 32) of the rest, if any.
  int64_t fullSteps() const { return k / step; }
  int64_t tailColumns() const { return (k % step + 31) / 32 * 32; }

  /// Whether the number is kept with its top bit inverted, so that it reads as unsigned.
  static bool isBiased(const Number &number) {
    return number.kind == Number::Kind::Signed && number.bits < 8;
  }
  bool codesAreBiased() const {
    return spec.code.kind == Code::Kind::Number && spec.code.number.kind == Number::Kind::Signed;
  }

  /// Bytes of an entry of a learned table.
  int64_t tableEntryBytes() const {
    const Number &number = spec.code.table.entryNumber;
    return number.isFloat() && number.bits == 16 ? 2 : 4;
  }

  Spec spec;
  int64_t n = 0, k = 0;
  CodeStorage storage = CodeStorage::Planes;
  int64_t step = 0;       ///< columns
  int64_t chunk = 0;      ///< columns, a multiple of step
  int64_t stepBytes = 0;  ///< of codes
  int64_t levelBytes = 0; ///< of levels at a chunk's start
  int64_t headerBytes = 0;
  int64_t chunkBytes = 0;       ///< levelBytes + chunk / step * stepBytes
  int64_t panelBytes = 0;       ///< a multiple of 64
  int64_t panelStart = 0;       ///< of a sum's term: within the sum's panel
  int64_t panelStride = 0;      ///< from one panel to the next: the sum's panelBytes
  int64_t tableStart = 0;       ///< from the matrix's start
  int64_t tableBytes = 0;       ///< of learned tables and a permutation; most formats have none
  int64_t columnStart = 0;      ///< of a split's term: its first column once they are permuted
  int64_t permutationStart = 0; ///< of a split: i32 [K], from the matrix's start
  llvm::SmallVector<BitPlane, 4> planes; ///< of codes
  llvm::SmallVector<PackedLevel, 4> levels;
  /// Of a sum or split, those of sums within a split too; all else is then unset but sizes.
  std::vector<PackedLayout> terms;

private:
  static llvm::Expected<PackedLayout> getBase(const Spec &spec, int64_t n, int64_t k);
  /// Of each of `terms`: those of sums within a split lie one level further down.
  llvm::Expected<llvm::SmallVector<const Components *>> dataOfTerms(const Components &rows) const;
  llvm::Error packTerm(const Components &rows, int64_t panel,
                       llvm::MutableArrayRef<uint8_t> out) const;
  llvm::Error unpackTerm(llvm::ArrayRef<uint8_t> in, int64_t panel, Components &rows) const;
};

} // namespace quern::format

#endif // QUERN_FORMAT_PACKEDLAYOUT_H
