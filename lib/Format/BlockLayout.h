//===- BlockLayout.h - Where each bit of a file's block lies ----*- C++ -*-===//
//
// A block's layout as data: for each array of Components, which bits of the block
// make up which element. Reading and writing both follow from it, so they cannot
// disagree.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_FORMAT_BLOCKLAYOUT_H
#define QUERN_LIB_FORMAT_BLOCKLAYOUT_H

#include "quern/Format/Components.h"

namespace quern::format {

/// Bits [shift, shift + width) of byte `byte + i` are bits [to, to + width) of element
/// `element + i`, for i < count.
struct BitRun {
  uint16_t byte;
  uint16_t element;
  uint16_t count;
  uint8_t shift;
  uint8_t width;
  uint8_t to;
};

/// Bit i of byte `byte` is bit `to` of element `element + i`, for i < 8: eight BitRuns in one.
struct BitSpread {
  uint16_t byte;
  uint16_t element;
  uint8_t to;
};

/// Five base-3 digits a byte, the first most significant, as a fraction of 256: digit i of
/// byte `byte + j` is element `element + i x count + j`, for j < count and i < digits.
struct TritRun {
  uint16_t byte;
  uint16_t element;
  uint16_t count;
  uint8_t digits;
};

/// One array's share of a block.
class BlockField {
public:
  enum class Target : uint8_t { Codes, Scale0, Scale1, Offset0, Offset1, Zero0 };

  Target target = Target::Codes;
  unsigned elements = 0;     ///< in a block
  unsigned elementBytes = 1; ///< of the Stream
  unsigned excess = 0;       ///< stored = value + excess
  std::vector<BitRun> runs;  ///< an element's lowest bits come in an earlier run than its others
  std::vector<BitSpread> spreads;
  std::vector<TritRun> trits;

  /// Bits [bit, bit + width) of the block (LSB first) are the next bits of `element`.
  void add(unsigned element, unsigned bit, unsigned width);
  /// Orders the runs so that unpacking may store the first and OR the others, and joins what
  /// BitSpread covers.
  void finish();

  Stream &stream(Components &components) const;
  const Stream &stream(const Components &components) const;
  void unpack(const uint8_t *block, uint8_t *elements) const;
  /// ORs the elements into a zeroed block.
  void pack(const uint8_t *elements, uint8_t *block) const;

private:
  std::vector<uint8_t> filled; ///< bits given to each element so far
};

struct BlockLayout {
  std::vector<BlockField> fields; ///< empty: a plain array of little-endian numbers
};

/// Digit `index` (0 first) of a byte of base-3 digits, and the byte of five digits.
unsigned tritOf(uint8_t byte, unsigned index);
uint8_t tritByte(const unsigned (&digits)[5]);

} // namespace quern::format

#endif // QUERN_LIB_FORMAT_BLOCKLAYOUT_H
