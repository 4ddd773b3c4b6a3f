//===- PackedCode.h - A program's code as one packed stream -----*- C++ -*-===//
//
// What lib/Emit/PackCode.cpp makes of a linked image and Program/Unpack.cpp puts into memory:
// the generated code and the runtime, at half to a third of their bytes.
//
// Unpacked, the stream is the image (addresses from 0, zeros where it has none), then `relocations`
// u32: gaps between the places of 8 bytes that hold an address of the image; then `imports` pairs
// of u32: a gap likewise and the number of a name; then `names` pairs of texts that end in 0: a
// symbol of the C library and its version.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_RUNTIME_PACKEDCODE_H
#define QUERN_RUNTIME_PACKEDCODE_H

#include <cstddef>
#include <cstdint>

namespace quern::runtime {

struct PackedCode {
  uint64_t hash;                 ///< Hash64 of the stream, packed
  uint32_t packedSize;           ///< of the stream, which follows this
  uint32_t size;                 ///< of the stream unpacked
  uint32_t imageSize;            ///< a multiple of the page size
  uint32_t codeBegin, codeEnd;   ///< pages that run; those before are read only
  uint32_t dataBegin;            ///< pages from here on may be written
  uint32_t starters, starterCount; ///< functions to call first: where their addresses are
  uint32_t entry;                ///< int (int argc, char **argv)
  uint32_t relocations, imports, names;
};

inline constexpr uint32_t codePage = 4096;

/// Addresses in x86's calls, jumps and operands are distances from where they stand; as places in
/// the image they repeat and pack better (by 7 percent). Whatever looks like one is converted: both
/// directions go over the same places, because only the four bytes behind an opcode change.
template <bool Packing>
void convertAddresses(uint8_t *code, size_t begin, size_t end, size_t size) {
  for (size_t i = begin; i + 5 <= end; ++i) {
    bool isCall = (code[i] & 0xFE) == 0xE8, isOperand = (code[i] & 0xC7) == 0x05;
    if (!isCall && !isOperand)
      continue;
    int32_t v = int32_t(code[i + 1] | code[i + 2] << 8 | code[i + 3] << 16 |
                        uint32_t(code[i + 4]) << 24);
    int64_t at = int64_t(i), n = int64_t(size);
    if (Packing && v >= -at && v < n) // onto itself: [0, n) is a place, [-at, 0) the rest
      v = int32_t(v < n - at ? v + at : v - n);
    else if (!Packing && v >= -at && v < n)
      v = int32_t(v >= 0 ? v - at : v + n);
    for (unsigned k = 0; k < 4; ++k)
      code[i + 1 + k] = uint8_t(uint32_t(v) >> 8 * k);
    i += 4;
  }
}

} // namespace quern::runtime

#endif // QUERN_RUNTIME_PACKEDCODE_H
