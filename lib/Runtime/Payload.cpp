//===- Payload.cpp - Mapping and checking a payload -----------------------===//
//
// Maps a file's payload read-only; the weights are neither copied nor repacked.
//
//===----------------------------------------------------------------------===//
#include "quern/Runtime/Payload.h"
#include "quern/Runtime/Hash.h"
#include "quern/Runtime/Lzma.h"
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace quern::runtime {

static Status fileError(const std::string &path, const std::string &what) {
  return Status::error(QUERN_ERROR_FILE, path + ": " + what);
}

void Payload::swap(Payload &other) noexcept {
  std::swap(image, other.image);
  std::swap(weightsImage, other.weightsImage);
  std::swap(hugeImage, other.hugeImage);
  std::swap(unpacked, other.unpacked);
  std::swap(sections, other.sections);
  std::swap(identity, other.identity);
  std::swap(weightsName, other.weightsName);
}

Payload::~Payload() {
  for (Mapping m : {image, weightsImage, hugeImage, unpacked})
    if (m.data)
      munmap(m.data, m.size);
}

Status Payload::mapFile(const std::string &path, Mapping &map, PayloadFooter &footer) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return fileError(path, std::string("cannot open: ") + std::strerror(errno));
  struct stat info;
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(fd);
    return fileError(path, "not a regular file");
  }
  uint64_t size = uint64_t(info.st_size);
  if (size < sizeof(PayloadFooter)) {
    close(fd);
    return fileError(path, "holds no model: " + std::to_string(size) + " bytes are too few");
  }
  if (pread(fd, &footer, sizeof footer, off_t(size - sizeof footer)) != ssize_t(sizeof footer)) {
    close(fd);
    return fileError(path, std::string("cannot read: ") + std::strerror(errno));
  }
  void *data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  int failure = errno;
  close(fd);
  if (data == MAP_FAILED)
    return fileError(path, std::string("cannot map: ") + std::strerror(failure));
  map = {static_cast<uint8_t *>(data), size};

  if (std::memcmp(footer.magic, payloadMagic, sizeof payloadMagic) != 0)
    return fileError(path, "holds no model: the file does not end in a payload footer "
                           "(was it stripped, or cut off?)");
  if (footer.version != payloadVersion)
    return fileError(path, "payload version " + std::to_string(footer.version) + ", expected " +
                               std::to_string(payloadVersion));
  Hash64 hash;
  hash.update(&footer, offsetof(PayloadFooter, footerHash));
  if (hash.finish() != footer.footerHash)
    return fileError(path, "the payload footer is damaged (its hash does not match)");
  if (footer.fileSize != size)
    return fileError(path, "the file has " + std::to_string(size) + " bytes, expected " +
                               std::to_string(footer.fileSize));
  uint64_t end = size - sizeof footer;
  bool outside = footer.packedOffset > end || footer.packedSize > end - footer.packedOffset;
  for (auto &s : footer.sections) {
    uint64_t most = footer.packedSize && &s != footer.sections ? payloadMostPacked : end;
    outside |= s.offset % payloadAlignment != 0 || s.offset > most || s.size > most - s.offset;
  }
  if (outside)
    return fileError(path, "a payload section lies outside the file");
  return {};
}

/// All sections but the weights, from their stream into memory of their own.
Status Payload::unpack(const std::string &path, const PayloadFooter &footer) {
  uint64_t size = 0;
  for (unsigned i = TokenizerSection; i < PayloadSectionCount; ++i)
    size = std::max(size, footer.sections[i].offset + footer.sections[i].size);
  uint64_t all = size + lzmaStates * sizeof(uint16_t) + sizeof(uint16_t);
  void *data = mmap(nullptr, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED)
    return Status::error(QUERN_ERROR_MEMORY, "out of memory: cannot unpack the tokenizer");
  unpacked = {static_cast<uint8_t *>(data), all};
  auto *states = reinterpret_cast<uint16_t *>(unpacked.data + (size + 1) / 2 * 2);
  if (!decodeLzma(image.data + footer.packedOffset, footer.packedSize, unpacked.data, size, states))
    return fileError(path, "the payload is damaged (its contents do not unpack)");
  for (unsigned i = TokenizerSection; i < PayloadSectionCount; ++i)
    sections[i] = {unpacked.data + footer.sections[i].offset, footer.sections[i].size};
  return {};
}

Status Payload::open(const std::string &path, const std::string &weightsPath, Payload &out) {
  Payload p;
  PayloadFooter footer;
  if (Status s = mapFile(path, p.image, footer); s.failed())
    return s;
  for (unsigned i = 0; i < PayloadSectionCount; ++i)
    if (i == WeightSection || !footer.packedSize)
      p.sections[i] = {p.image.data + footer.sections[i].offset, footer.sections[i].size};
  if (footer.packedSize)
    if (Status s = p.unpack(path, footer); s.failed())
      return s;
  Hash64 contents;
  for (PayloadSection kind : {TokenizerSection, ChatSection, MetadataSection})
    contents.update(p.sections[kind].data(), p.sections[kind].size());
  if (contents.finish() != footer.contentsHash)
    return fileError(path, "the payload is damaged (its contents do not match their hash)");
  p.identity = footer.weightsHash;
  p.weightsName = path;

  if (footer.flags & payloadWeightsBeside) {
    std::string resolved = path;
    if (path == "/proc/self/exe") { // the weights lie beside the real file
      char buffer[4096];
      ssize_t n = readlink(path.c_str(), buffer, sizeof buffer);
      if (n > 0 && size_t(n) < sizeof buffer)
        resolved.assign(buffer, size_t(n));
    }
    p.weightsName = weightsPath.empty() ? resolved + ".weights" : weightsPath;
    PayloadFooter beside;
    if (Status s = mapFile(p.weightsName, p.weightsImage, beside); s.failed()) {
      s.message = "the weights of this program lie in a file of their own: " + s.message;
      return s;
    }
    if (beside.weightsHash != footer.weightsHash)
      return fileError(p.weightsName, "holds other weights than the ones this program was "
                                      "compiled with");
    p.sections[WeightSection] = {p.weightsImage.data + beside.sections[WeightSection].offset,
                                 beside.sections[WeightSection].size};
  }
  out = std::move(p);
  return {};
}

Status Payload::useHugePages() {
  constexpr uint64_t page = uint64_t(2) << 20;
  std::span<const uint8_t> from = sections[WeightSection];
  if (from.empty() || hugeImage.data)
    return {};
  uint64_t size = (from.size() + page - 1) / page * page;
  void *data =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
  if (data == MAP_FAILED) {
    // Transparent pages need an aligned range: map one page more and cut the ends off.
    auto *raw = static_cast<uint8_t *>(
        mmap(nullptr, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (raw == MAP_FAILED)
      return Status::error(QUERN_ERROR_MEMORY, "--huge-pages: cannot allocate " +
                                                   std::to_string(size) +
                                                   " bytes: " + std::strerror(errno));
    uint64_t skip = (page - reinterpret_cast<uintptr_t>(raw) % page) % page;
    if (skip)
      munmap(raw, skip);
    if (skip < page)
      munmap(raw + skip + size, page - skip);
    data = raw + skip;
    madvise(data, size, MADV_HUGEPAGE); // without support the copy is still correct
  }
  hugeImage = {static_cast<uint8_t *>(data), size};
  std::memcpy(hugeImage.data, from.data(), from.size());
  mprotect(hugeImage.data, size, PROT_READ);
  sections[WeightSection] = {hugeImage.data, from.size()};
  return {};
}

Status Payload::verifyWeights() const {
  Hash64 hash;
  hash.update(sections[WeightSection].data(), sections[WeightSection].size());
  if (hash.finish() != identity)
    return fileError(weightsName, "the weights are damaged (they do not match their hash)");
  return {};
}

std::string imagePath(const void *address) {
  struct Search {
    uintptr_t address;
    std::string path;
  } search{reinterpret_cast<uintptr_t>(address), "/proc/self/exe"};
  dl_iterate_phdr(
      [](dl_phdr_info *info, size_t, void *data) {
        auto &s = *static_cast<Search *>(data);
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto &h = info->dlpi_phdr[i];
          uintptr_t begin = info->dlpi_addr + h.p_vaddr;
          if (h.p_type != PT_LOAD || s.address < begin || s.address - begin >= h.p_memsz)
            continue;
          if (info->dlpi_name && *info->dlpi_name) // the main program has no name
            s.path = info->dlpi_name;
          return 1;
        }
        return 0;
      },
      &search);
  return search.path;
}

} // namespace quern::runtime
