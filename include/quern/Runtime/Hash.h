//===- Hash.h - A fast streaming hash for integrity checks ------*- C++ -*-===//
//
// 64 bits, word at a time, the same for any way of cutting the input up. Detects
// damage and mix-ups; it is not cryptographic.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_RUNTIME_HASH_H
#define QUERN_RUNTIME_HASH_H

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace quern::runtime {

class Hash64 {
public:
  void update(const void *data, size_t size) {
    auto *p = static_cast<const uint8_t *>(data);
    total += size;
    while (pendingSize && size) { // complete the word left over
      pending[pendingSize++] = *p++, --size;
      if (pendingSize == 8)
        word(pending), pendingSize = 0;
    }
    for (; size >= 8; p += 8, size -= 8)
      word(p);
    if (size) {
      std::memcpy(pending, p, size);
      pendingSize = size;
    }
  }

  uint64_t finish() const {
    Hash64 h = *this;
    if (h.pendingSize) {
      std::memset(h.pending + h.pendingSize, 0, 8 - h.pendingSize);
      h.word(h.pending);
    }
    uint64_t x = h.state ^ total;
    x = (x ^ (x >> 32)) * 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 29)) * 0xBF58476D1CE4E5B9ull;
    return x ^ (x >> 32);
  }

private:
  void word(const uint8_t *p) {
    uint64_t w;
    std::memcpy(&w, p, 8);
    state = (state ^ w) * 0xD6E8FEB86659FD93ull;
    state ^= state >> 32; // carries high bits, which a product alone never sends down
  }

  uint64_t state = 0x243F6A8885A308D3ull, total = 0;
  uint8_t pending[8] = {};
  size_t pendingSize = 0;
};

} // namespace quern::runtime

#endif // QUERN_RUNTIME_HASH_H
