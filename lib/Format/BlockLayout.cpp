//===- BlockLayout.cpp - Reading and writing blocks by their layout -------===//
//
// Runs of bytes with equal shifts make both directions loops over bytes, which
// the compiler vectorizes.
//
//===----------------------------------------------------------------------===//
#include "BlockLayout.h"
#include <algorithm>
#include <cstring>
#include <tuple>

using namespace quern::format;

void BlockField::add(unsigned element, unsigned bit, unsigned width) {
  if (filled.size() <= element)
    filled.resize(element + 1);
  while (width != 0) {
    unsigned byte = bit / 8, shift = bit % 8;
    unsigned part = std::min(width, 8 - shift);
    unsigned to = filled[element];
    auto extends = [&](const BitRun &run) {
      return run.byte + run.count == byte && run.element + run.count == element &&
             run.shift == shift && run.width == part && run.to == to;
    };
    auto run = std::find_if(runs.begin(), runs.end(), extends);
    if (run != runs.end())
      ++run->count;
    else
      runs.push_back(
          {uint16_t(byte), uint16_t(element), 1, uint8_t(shift), uint8_t(part), uint8_t(to)});
    filled[element] += part;
    bit += part;
    width -= part;
  }
  elements = std::max(elements, element + 1);
}

void BlockField::finish() {
  std::sort(runs.begin(), runs.end(), [](const BitRun &a, const BitRun &b) {
    return std::tie(a.to, a.element) < std::tie(b.to, b.element);
  });
  if (elementBytes != 1)
    return;
  std::vector<BitRun> others;
  for (size_t i = 0; i < runs.size();) {
    const BitRun &first = runs[i];
    auto continues = [&](unsigned bit) {
      const BitRun &run = runs[i + bit];
      return run.byte == first.byte && run.element == first.element + bit && run.shift == bit &&
             run.width == 1 && run.count == 1 && run.to == first.to;
    };
    unsigned bits = 0;
    while (bits < 8 && i + bits < runs.size() && continues(bits))
      ++bits;
    if (bits == 8)
      spreads.push_back({first.byte, first.element, first.to});
    else
      others.push_back(first);
    i += bits == 8 ? 8 : 1;
  }
  runs = std::move(others);
}

/// Byte i of the result is bit i of `bits`.
static uint64_t spreadBits(uint8_t bits) {
  uint64_t picked = (bits * 0x0101010101010101u) & 0x8040201008040201u;
  return ((picked + 0x7F7F7F7F7F7F7F7Fu) >> 7) & 0x0101010101010101u;
}

/// The inverse, of bytes that are 0 or 1.
static uint8_t gatherBits(uint64_t bytes) { return uint8_t((bytes * 0x0102040810204080u) >> 56); }

template <typename C> static auto &streamOf(BlockField::Target target, C &components) {
  switch (target) {
  case BlockField::Target::Codes:
    return components.codes;
  case BlockField::Target::Scale0:
    return components.scale[0];
  case BlockField::Target::Scale1:
    return components.scale[1];
  case BlockField::Target::Offset0:
    return components.offset[0];
  case BlockField::Target::Offset1:
    return components.offset[1];
  case BlockField::Target::Zero0:
    return components.zero[0];
  }
  return components.codes;
}

Stream &BlockField::stream(Components &components) const { return streamOf(target, components); }
const Stream &BlockField::stream(const Components &components) const {
  return streamOf(target, components);
}

unsigned quern::format::tritOf(uint8_t byte, unsigned index) {
  static constexpr uint8_t powers[] = {1, 3, 9, 27, 81};
  return (unsigned(uint8_t(byte * powers[index])) * 3) >> 8;
}

uint8_t quern::format::tritByte(const unsigned (&digits)[5]) {
  unsigned value = 0;
  for (unsigned digit : digits)
    value = value * 3 + digit;
  return uint8_t((value * 256 + 242) / 243); // the least fraction of 256 that reads back
}

static void unpackSpreads(const BlockField &field, const uint8_t *block, uint8_t *out, bool first) {
  for (const BitSpread &spread : field.spreads) {
    if ((spread.to == 0) != first)
      continue;
    uint64_t old = 0, bits = spreadBits(block[spread.byte]) << spread.to;
    if (!first)
      std::memcpy(&old, out + spread.element, 8);
    bits |= old;
    std::memcpy(out + spread.element, &bits, 8);
  }
}

template <typename T>
static void unpackRuns(const BlockField &field, const uint8_t *__restrict block,
                       T *__restrict out) {
  if constexpr (sizeof(T) == 1)
    unpackSpreads(field, block, out, /*first=*/true);
  for (const BitRun &run : field.runs) {
    const uint8_t *from = block + run.byte;
    T *to = out + run.element;
    unsigned mask = (1u << run.width) - 1, shift = run.shift;
    if (run.to == 0)
      for (unsigned i = 0; i < run.count; ++i)
        to[i] = T((from[i] >> shift) & mask);
    else
      for (unsigned i = 0; i < run.count; ++i)
        to[i] = T(to[i] | T((T(from[i]) >> shift) & mask) << run.to);
  }
  if constexpr (sizeof(T) == 1)
    unpackSpreads(field, block, out, /*first=*/false);
  if (field.excess != 0)
    for (unsigned i = 0; i < field.elements; ++i)
      out[i] = T(out[i] - T(field.excess));
}

template <typename T>
static void packRuns(const BlockField &field, const T *__restrict from, uint8_t *__restrict block) {
  for (const BitRun &run : field.runs) {
    uint8_t *to = block + run.byte;
    const T *elements = from + run.element;
    unsigned mask = (1u << run.width) - 1;
    for (unsigned i = 0; i < run.count; ++i)
      to[i] |= uint8_t(((T(elements[i] + T(field.excess)) >> run.to) & mask) << run.shift);
  }
  if constexpr (sizeof(T) == 1)
    for (const BitSpread &spread : field.spreads) {
      uint64_t bytes = 0;
      for (unsigned i = 0; i < 8; ++i)
        bytes |= uint64_t((uint8_t(from[spread.element + i] + field.excess) >> spread.to) & 1)
                 << (8 * i);
      block[spread.byte] |= gatherBits(bytes);
    }
}

void BlockField::unpack(const uint8_t *block, uint8_t *out) const {
  for (const TritRun &run : trits)
    for (unsigned i = 0; i < run.digits; ++i)
      for (unsigned j = 0; j < run.count; ++j)
        out[run.element + i * run.count + j] = uint8_t(tritOf(block[run.byte + j], i));
  switch (elementBytes) {
  case 1:
    unpackRuns(*this, block, out);
    return;
  case 2:
    unpackRuns(*this, block, reinterpret_cast<uint16_t *>(out));
    return;
  default:
    unpackRuns(*this, block, reinterpret_cast<uint32_t *>(out));
    return;
  }
}

void BlockField::pack(const uint8_t *from, uint8_t *block) const {
  for (const TritRun &run : trits)
    for (unsigned j = 0; j < run.count; ++j) {
      unsigned digits[5] = {};
      for (unsigned i = 0; i < run.digits; ++i)
        digits[i] = std::min<unsigned>(from[run.element + i * run.count + j], 2);
      block[run.byte + j] = tritByte(digits);
    }
  switch (elementBytes) {
  case 1:
    packRuns(*this, from, block);
    return;
  case 2:
    packRuns(*this, reinterpret_cast<const uint16_t *>(from), block);
    return;
  default:
    packRuns(*this, reinterpret_cast<const uint32_t *>(from), block);
    return;
  }
}
