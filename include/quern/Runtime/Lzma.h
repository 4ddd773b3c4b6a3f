//===- Lzma.h - Unpacking what programs carry packed ------------*- C++ -*-===//
//
// A decoder of raw LZMA streams (no header; 3 bits of literal context, none of position): what of a
// program is no weight (code, tokenizer, metadata) lies packed in its file. Nothing but this file's
// few hundred instructions is needed for it: no allocation, no C++ library.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_RUNTIME_LZMA_H
#define QUERN_RUNTIME_LZMA_H

#include <cstddef>
#include <cstdint>

namespace quern::runtime {

inline constexpr unsigned lzmaLiteralContextBits = 3; ///< what lib/Emit/Lzma.cpp encodes with
inline constexpr size_t lzmaStates = 0x300 * 8 + 1024; ///< of the decoder's working memory

/// Fills `out` with the first `outSize` bytes of the stream at `in`; false if the stream is damaged
/// or too short. `states` is working memory of lzmaStates entries.
bool decodeLzma(const uint8_t *in, size_t inSize, uint8_t *out, size_t outSize, uint16_t *states);

} // namespace quern::runtime

#endif // QUERN_RUNTIME_LZMA_H
