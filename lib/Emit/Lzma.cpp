//===- Lzma.cpp - liblzma's encoder ---------------------------------------===//
//
// With the parameters that the runtime's decoder is written for.
//
//===----------------------------------------------------------------------===//
#include "quern/Emit/Lzma.h"
#include "quern/Runtime/Lzma.h"
#include <lzma.h>

using namespace llvm;

namespace quern::emit {

Expected<std::vector<uint8_t>> encodeLzma(ArrayRef<uint8_t> bytes) {
  lzma_options_lzma options;
  lzma_lzma_preset(&options, 9 | LZMA_PRESET_EXTREME);
  options.dict_size = std::max<uint32_t>(LZMA_DICT_SIZE_MIN, uint32_t(bytes.size()));
  options.lc = runtime::lzmaLiteralContextBits;
  options.lp = options.pb = 0;
  options.nice_len = 273;
  options.depth = 1000;
  lzma_filter filters[] = {{LZMA_FILTER_LZMA1, &options}, {LZMA_VLI_UNKNOWN, nullptr}};
  std::vector<uint8_t> out(bytes.size() + bytes.size() / 8 + 256);
  size_t size = 0;
  if (lzma_ret failure = lzma_raw_buffer_encode(filters, nullptr, bytes.data(), bytes.size(),
                                                out.data(), &size, out.size()))
    return createStringError("liblzma cannot pack " + Twine(bytes.size()) + " bytes (error " +
                             Twine(int(failure)) + ")");
  out.resize(size);
  return std::move(out);
}

} // namespace quern::emit
