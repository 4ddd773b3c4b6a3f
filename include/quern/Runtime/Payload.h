//===- Payload.h - Weights and data carried by a program --------*- C++ -*-===//
//
// A payload is a run of aligned sections at the end of a file, closed by a fixed
// footer, so that it can follow an executable, a shared library, or nothing:
//
//   [ELF image] pad [weights] pad [tokenizer] pad [chat] pad [metadata JSON] footer
//
// What follows the weights is packed as one stream where that is quick to undo at every start.
// With `--weights beside` the program's own payload has no weights section and a
// second file has nothing else; their identities must agree. All numbers are
// little endian. Everything read from a footer is checked before use.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_RUNTIME_PAYLOAD_H
#define QUERN_RUNTIME_PAYLOAD_H

#include "quern/Runtime/Status.h"
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace quern::runtime {

enum PayloadSection : uint32_t {
  WeightSection,
  TokenizerSection,
  ChatSection,
  MetadataSection,
  PayloadSectionCount
};

inline constexpr char payloadMagic[8] = {'Q', 'U', 'E', 'R', 'N', 'P', 'K', '1'};
inline constexpr uint32_t payloadVersion = 2;
inline constexpr uint64_t payloadAlignment = 64; ///< of sections: what kernels load at once
/// Sections after the weights that are larger together stay as they are: unpacking takes some 25 ns
/// a byte.
inline constexpr uint64_t payloadMostPacked = 512 << 10;

struct PayloadFooter {
  char magic[8];
  uint32_t version;
  uint32_t flags;    ///< bit 0: the weights lie in a file beside
  uint64_t fileSize; ///< of the whole file, this footer included
  struct {
    uint64_t offset, size; ///< aligned; absolute, or within the unpacked bytes
  } sections[PayloadSectionCount];
  uint64_t packedOffset, packedSize; ///< a stream of Lzma.h with all but the weights; or no bytes
  uint64_t weightsHash;  ///< Hash64 of the weights section, wherever it lies
  uint64_t contentsHash; ///< Hash64 of the tokenizer, chat and metadata sections, in order
  uint64_t footerHash;   ///< Hash64 of all fields above
};
static_assert(sizeof(PayloadFooter) == 24 + 16 * PayloadSectionCount + 16 + 24, "no padding");

inline constexpr uint32_t payloadWeightsBeside = 1;

/// A payload mapped read-only. Movable; unmaps itself.
class Payload {
public:
  Payload() = default;
  Payload(Payload &&other) noexcept { swap(other); }
  Payload &operator=(Payload &&other) noexcept {
    swap(other);
    return *this;
  }
  ~Payload();

  /// Maps the payload at the end of `path`. When its weights lie beside, they are
  /// looked for at `weightsPath`, or at `path`.weights when that is empty.
  static Status open(const std::string &path, const std::string &weightsPath, Payload &out);

  std::span<const uint8_t> section(PayloadSection kind) const { return sections[kind]; }
  std::string_view metadata() const {
    auto s = section(MetadataSection);
    return {reinterpret_cast<const char *>(s.data()), s.size()};
  }
  uint64_t weightsHash() const { return identity; }
  const std::string &weightsFile() const { return weightsName; }

  /// Copies the weights into 2 MB pages (explicit ones if the machine has them reserved,
  /// transparent ones otherwise) and drops the mapping of the file.
  Status useHugePages();

  /// Reads the weights once and compares their hash with the footer's.
  Status verifyWeights() const;

private:
  struct Mapping {
    uint8_t *data = nullptr;
    uint64_t size = 0;
  };
  void swap(Payload &other) noexcept;
  static Status mapFile(const std::string &path, Mapping &map, PayloadFooter &footer);
  Status unpack(const std::string &path, const PayloadFooter &footer);

  Mapping image, weightsImage, hugeImage, unpacked;
  std::span<const uint8_t> sections[PayloadSectionCount];
  uint64_t identity = 0;
  std::string weightsName;
};

/// The file whose image holds `address`: the executable, or a shared library.
std::string imagePath(const void *address);

} // namespace quern::runtime

#endif // QUERN_RUNTIME_PAYLOAD_H
