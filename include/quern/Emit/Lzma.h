//===- Lzma.h - Packing what programs carry ---------------------*- C++ -*-===//
//
// The other half of quern/Runtime/Lzma.h, by liblzma.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_EMIT_LZMA_H
#define QUERN_EMIT_LZMA_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"
#include <vector>

namespace quern::emit {

/// `bytes` as a raw LZMA stream; the same bytes give the same stream.
llvm::Expected<std::vector<uint8_t>> encodeLzma(llvm::ArrayRef<uint8_t> bytes);

} // namespace quern::emit

#endif // QUERN_EMIT_LZMA_H
