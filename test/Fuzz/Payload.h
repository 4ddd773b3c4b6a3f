//===- Payload.h - Payloads of programs out of decisions --------*- C++ -*-===//
#ifndef QUERN_TEST_FUZZ_PAYLOAD_H
#define QUERN_TEST_FUZZ_PAYLOAD_H

#include "Generator.h"
#include "quern/Runtime/Hash.h"
#include "quern/Runtime/Lzma.h"
#include "quern/Runtime/Payload.h"
#include <array>

namespace quern::fuzz {

struct PayloadParts {
  std::array<std::string, runtime::PayloadSectionCount> sections;
  uint32_t flags = 0;
  uint64_t weightsHash = 0;
  std::string packed; ///< a stream that stands for all sections but the weights; empty: none
};

/// A payload without a program before it; hashes and sizes are right more often than not.
inline std::string payload(Decisions &d, PayloadParts parts) {
  using namespace quern::runtime;
  std::string file;
  PayloadFooter footer = {};
  std::memcpy(footer.magic, payloadMagic, 8);
  footer.version = d.rarely(30) ? d.byte() : payloadVersion;
  footer.flags = parts.flags;
  footer.weightsHash = parts.weightsHash;
  // Any bytes unpack to something, which then is what the sections hold.
  uint64_t unpackedSize = 0;
  for (unsigned i = TokenizerSection; i < PayloadSectionCount && !parts.packed.empty(); ++i)
    unpackedSize = (unpackedSize + parts.sections[i].size() + payloadAlignment - 1) /
                   payloadAlignment * payloadAlignment;
  std::string unpacked(unpackedSize, 0);
  std::vector<uint16_t> states(lzmaStates);
  if (!parts.packed.empty()) {
    decodeLzma(reinterpret_cast<const uint8_t *>(parts.packed.data()), parts.packed.size(),
               reinterpret_cast<uint8_t *>(unpacked.data()), unpacked.size(), states.data());
    footer.packedSize = d.rarely(40) ? d.count(255) : parts.packed.size();
    file = parts.packed;
  }
  Hash64 contents, whole;
  uint64_t inStream = 0;
  for (unsigned i = 0; i < PayloadSectionCount; ++i) {
    std::string &section = parts.sections[i];
    bool packed = i != WeightSection && !parts.packed.empty();
    if (!packed)
      file.resize((file.size() + payloadAlignment - 1) / payloadAlignment * payloadAlignment);
    uint64_t offset = packed ? inStream : file.size();
    footer.sections[i] = {d.rarely(40) ? d.count(255) * payloadAlignment : offset,
                          d.rarely(40) ? d.count(255) : section.size()};
    if (packed) {
      section = unpacked.substr(offset, section.size());
      inStream += (section.size() + payloadAlignment - 1) / payloadAlignment * payloadAlignment;
    } else {
      file += section;
    }
    if (i != WeightSection)
      contents.update(section.data(), section.size());
  }
  footer.contentsHash = contents.finish();
  footer.fileSize = file.size() + sizeof(footer) + (d.rarely(30) ? d.byte() : 0);
  whole.update(&footer, offsetof(PayloadFooter, footerHash));
  footer.footerHash = whole.finish();
  file.append(reinterpret_cast<const char *>(&footer), sizeof footer);
  if (d.rarely(20))
    file[file.size() - 1 - d.byte() % file.size()] ^= 1;
  return file;
}

} // namespace quern::fuzz

#endif
