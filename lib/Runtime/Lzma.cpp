//===- Lzma.cpp - Decoding LZMA -------------------------------------------===//
//
// After the format's public description (LZMA specification, I. Pavlov, 2013). A range coder codes
// single bits, each with an adaptive probability chosen by its context; bits make literals, lengths
// and distances of earlier bytes.
//
//===----------------------------------------------------------------------===//
#include "quern/Runtime/Lzma.h"

namespace quern::runtime {

namespace {
/// Where each kind of bit keeps its probabilities. Without position bits every length has one coder.
enum : unsigned {
  IsMatch = 0,             // by state
  IsRepeat = IsMatch + 12, // by state, as the next four
  IsOther0 = IsRepeat + 12,
  IsOther1 = IsOther0 + 12,
  IsOther2 = IsOther1 + 12,
  IsLong = IsOther2 + 12,
  Lengths = IsLong + 12, // two coders: new matches, repeated distances
  LengthShort = 2,       // in a coder, after its two choices: trees of 3, 3 and 8 bits
  LengthMiddle = LengthShort + 8,
  LengthLong = LengthMiddle + 8,
  LengthSize = LengthLong + 256,
  Slots = Lengths + 2 * LengthSize, // by length, a tree of 6 bits
  Special = Slots + 4 * 64,         // the low bits of distances of the slots 4 to 13
  Align = Special + 115,            // the lowest four of the others'
  Literals = Align + 16,            // by the bits of the byte before
};
static_assert(Literals + (0x300u << lzmaLiteralContextBits) <= lzmaStates);

struct Decoder {
  const uint8_t *in, *end;
  uint16_t *p;
  uint32_t range = 0xFFFFFFFF, code = 0;
  bool short_ = false; ///< the stream ended before the text did

  unsigned next() {
    if (in != end)
      return *in++;
    short_ = true;
    return 0;
  }
  void normalize() {
    if (range >> 24)
      return;
    range <<= 8;
    code = code << 8 | next();
  }
  [[gnu::always_inline]] unsigned bit(unsigned at) {
    normalize();
    unsigned probability = p[at];
    uint32_t bound = (range >> 11) * probability;
    if (code < bound) {
      range = bound;
      p[at] = uint16_t(probability + ((2048 - probability) >> 5));
      return 0;
    }
    range -= bound;
    code -= bound;
    p[at] = uint16_t(probability - (probability >> 5));
    return 1;
  }
  unsigned tree(unsigned at, unsigned bits) {
    unsigned node = 1;
    while (!(node >> bits))
      node = node << 1 | bit(at + node);
    return node - (1u << bits);
  }
  uint32_t reversed(unsigned at, unsigned bits) {
    unsigned node = 1;
    uint32_t value = 0;
    for (unsigned i = 0; i < bits; ++i) {
      unsigned b = bit(at + node);
      node = node << 1 | b;
      value |= b << i;
    }
    return value;
  }
  uint32_t plainBits(unsigned bits) {
    uint32_t value = 0;
    while (bits--) {
      normalize();
      range >>= 1;
      unsigned b = code >= range;
      if (b)
        code -= range;
      value = value << 1 | b;
    }
    return value;
  }
  uint32_t length(unsigned coder) {
    if (!bit(coder))
      return tree(coder + LengthShort, 3);
    if (!bit(coder + 1))
      return 8 + tree(coder + LengthMiddle, 3);
    return 16 + tree(coder + LengthLong, 8);
  }
  uint32_t distance(uint32_t length) {
    unsigned slot = tree(Slots + (length < 3 ? length : 3) * 64, 6);
    if (slot < 4)
      return slot;
    unsigned low = slot / 2 - 1;
    uint32_t base = (2 | (slot & 1)) << low;
    if (slot < 14)
      return base + reversed(Special + base - slot, low);
    uint32_t middle = plainBits(low - 4) << 4;
    return base + middle + reversed(Align, 4);
  }
};
} // namespace

bool decodeLzma(const uint8_t *in, size_t inSize, uint8_t *out, size_t outSize, uint16_t *states) {
  for (size_t i = 0; i < lzmaStates; ++i)
    states[i] = 1024;
  Decoder d{in, in + inSize, states};
  d.next(); // always zero
  for (unsigned i = 0; i < 4; ++i)
    d.code = d.code << 8 | d.next();
  uint32_t repeat[4] = {}; // the last four distances, less 1
  unsigned state = 0;      // the kinds of the last few symbols
  for (size_t at = 0; at < outSize;) {
    if (d.short_)
      return false;
    if (!d.bit(IsMatch + state)) {
      unsigned context = at ? out[at - 1] >> (8 - lzmaLiteralContextBits) : 0;
      unsigned base = Literals + 0x300 * context, symbol = 1;
      if (state >= 7) { // after a match: the byte it would have gone on with tells much
        unsigned expected = out[at - repeat[0] - 1], same = 1;
        while (symbol < 0x100 && same) {
          unsigned e = expected >> 7 & 1, b = d.bit(base + ((1 + e) << 8) + symbol);
          expected <<= 1;
          symbol = symbol << 1 | b;
          same = e == b;
        }
      }
      while (symbol < 0x100)
        symbol = symbol << 1 | d.bit(base + symbol);
      out[at++] = uint8_t(symbol);
      state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6;
      continue;
    }
    uint32_t length;
    if (d.bit(IsRepeat + state)) {
      if (!d.bit(IsOther0 + state)) {
        if (!d.bit(IsLong + state)) {
          if (repeat[0] >= at)
            return false;
          out[at] = out[at - repeat[0] - 1];
          ++at;
          state = state < 7 ? 9 : 11;
          continue;
        }
      } else {
        unsigned which = !d.bit(IsOther1 + state) ? 1 : 2 + d.bit(IsOther2 + state);
        uint32_t distance = repeat[which];
        for (unsigned i = which; i; --i)
          repeat[i] = repeat[i - 1];
        repeat[0] = distance;
      }
      length = d.length(Lengths + LengthSize);
      state = state < 7 ? 8 : 11;
    } else {
      for (unsigned i = 3; i; --i)
        repeat[i] = repeat[i - 1];
      length = d.length(Lengths);
      repeat[0] = d.distance(length);
      state = state < 7 ? 7 : 10;
    }
    length += 2;
    if (repeat[0] >= at || length > outSize - at)
      return false;
    for (; length; --length, ++at)
      out[at] = out[at - repeat[0] - 1];
  }
  return !d.short_;
}

} // namespace quern::runtime
