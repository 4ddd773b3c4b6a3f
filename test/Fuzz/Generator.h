//===- Generator.h - Decisions out of fuzzer input ---------------*- C++ -*-===//
//
// The bytes libFuzzer mutates are read as a sequence of decisions, from which a
// mostly well-formed file is built: so that coverage grows behind the header.
// Running out of bytes yields zeros, i.e. the plainest choice everywhere.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_TEST_FUZZ_GENERATOR_H
#define QUERN_TEST_FUZZ_GENERATOR_H

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace quern::fuzz {

class Decisions {
public:
  Decisions(const uint8_t *data, size_t size) : data(data), size(size) {}
  uint8_t byte() { return at < size ? data[at++] : 0; }
  bool done() const { return at >= size; }
  /// In [0, n).
  unsigned below(unsigned n) { return n <= 1 ? 0 : byte() % n; }
  /// True once in about `n` times, never when the bytes have run out.
  bool rarely(unsigned n) { return byte() >= 256 - 256 / n; }
  uint64_t word() {
    uint64_t value = 0;
    for (int i = 0; i < 8; ++i)
      value = value << 8 | byte();
    return value;
  }
  /// Mostly small, sometimes at the edges where arithmetic breaks.
  uint64_t count(uint64_t usual) {
    if (!rarely(24))
      return byte() % (usual + 1);
    static const uint64_t edges[] = {0,
                                     1,
                                     31,
                                     32,
                                     255,
                                     256,
                                     65535,
                                     65536,
                                     0x7FFFFFFF,
                                     0x80000000,
                                     0xFFFFFFFF,
                                     uint64_t(1) << 32,
                                     uint64_t(1) << 61,
                                     uint64_t(1) << 62,
                                     INT64_MAX,
                                     uint64_t(1) << 63,
                                     UINT64_MAX - 31,
                                     UINT64_MAX};
    unsigned i = below(std::size(edges) + 1);
    return i < std::size(edges) ? edges[i] : word();
  }
  template <size_t N> const char *pick(const char *const (&list)[N]) { return list[below(N)]; }
  std::string text(unsigned longest) {
    std::string result;
    for (unsigned n = below(longest + 1); n > 0; --n)
      result += char(byte());
    return result;
  }
  std::string rest() {
    std::string result(reinterpret_cast<const char *>(data) + at, size - at);
    at = size;
    return result;
  }

private:
  const uint8_t *data;
  size_t size, at = 0;
};

/// Changes a few bytes of a finished file, or cuts it, once in about `n` times.
inline void spoil(Decisions &d, std::string &file, unsigned n = 6) {
  if (file.empty() || !d.rarely(n))
    return;
  for (unsigned changes = 1 + d.below(4); changes > 0; --changes) {
    size_t at = (uint64_t(d.byte()) << 16 | uint64_t(d.byte()) << 8 | d.byte()) % file.size();
    switch (d.below(3)) {
    case 0:
      file[at] = char(d.byte());
      break;
    case 1:
      file[at] = char(file[at] ^ (1 << d.below(8)));
      break;
    case 2:
      file.insert(at, d.text(4));
      break;
    }
  }
  if (d.rarely(4))
    file.resize((uint64_t(d.byte()) << 8 | d.byte()) % (file.size() + 1));
}

/// With QUERN_FUZZ_SHOW set, says why an input was refused: for those who tune a generator.
inline void show(const std::string &message) {
  static const bool wanted = std::getenv("QUERN_FUZZ_SHOW");
  if (wanted)
    std::fprintf(stderr, "refused: %s\n", message.c_str());
}

/// How many inputs got past the header, and how many were accepted; printed at exit.
struct Tally {
  const char *name;
  uint64_t runs = 0, header = 0, accepted = 0;
  explicit Tally(const char *name) : name(name) {}
  ~Tally() {
    if (runs)
      std::fprintf(stderr, "%s: %llu inputs, %.1f %% passed the header, %.1f %% were accepted\n",
                   name, (unsigned long long)runs, 100.0 * header / runs, 100.0 * accepted / runs);
  }
};

} // namespace quern::fuzz

#endif
