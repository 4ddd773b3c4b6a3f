//===- Store.cpp - What a run has found out so far ------------------------===//
//
// A file: the payload, the numbers as f64, the xxh3 of both. All of the host's byte order.
//
//===----------------------------------------------------------------------===//
#include "Store.h"
#include "quern/Support/OutputFile.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/xxhash.h"
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>

using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

Key &Key::add(llvm::ArrayRef<uint8_t> bytes) {
  llvm::XXH128_hash_t hash = llvm::xxh3_128bits(bytes);
  uint64_t words[3] = {bytes.size(), hash.low64, hash.high64};
  auto *raw = reinterpret_cast<const uint8_t *>(words);
  parts.insert(parts.end(), raw, raw + sizeof(words));
  return *this;
}

std::string Key::digits() const {
  llvm::XXH128_hash_t hash = llvm::xxh3_128bits(parts);
  return llvm::utohexstr(hash.high64, true, 16) + llvm::utohexstr(hash.low64, true, 16);
}

Expected<Store> Store::create(StringRef folder) {
  Store out;
  if (folder.empty()) {
    llvm::SmallString<128> path;
    if (std::error_code ec = llvm::sys::fs::createUniqueDirectory("quern-candidates", path))
      return createStringError("cannot create a temporary folder: " + ec.message());
    out.root = path.str().str();
    out.removed = true;
    return out;
  }
  if (std::error_code ec = llvm::sys::fs::create_directories(folder))
    return createStringError("cannot create the folder '" + folder + "': " + ec.message());
  out.root = folder.str();
  return out;
}

Store::~Store() {
  if (removed && !root.empty())
    llvm::sys::fs::remove_directories(root);
}

std::optional<std::vector<double>> Store::find(StringRef key, uint64_t bytes,
                                               size_t numbers) const {
  auto buffer = llvm::MemoryBuffer::getFile(path(key), /*IsText=*/false,
                                            /*RequiresNullTerminator=*/false);
  if (!buffer)
    return std::nullopt;
  StringRef all = (*buffer)->getBuffer();
  if (all.size() != bytes + numbers * sizeof(double) + sizeof(uint64_t))
    return std::nullopt;
  StringRef hashed = all.drop_back(sizeof(uint64_t));
  uint64_t expected;
  std::memcpy(&expected, hashed.end(), sizeof(expected));
  if (llvm::xxh3_64bits(hashed) != expected)
    return std::nullopt;
  std::vector<double> out(numbers);
  std::memcpy(out.data(), all.data() + bytes, numbers * sizeof(double));
  (void)utimensat(AT_FDCWD, path(key).c_str(), nullptr, 0); // it is in use: see trim()
  return out;
}

/// Whether a file is a candidate: its name ends with a hash.
static bool isCandidate(StringRef name) {
  StringRef digits = name.rsplit('.').second;
  return digits.size() == 32 && llvm::all_of(digits, [](char c) { return llvm::isHexDigit(c); }) &&
         !name.starts_with("statistics.");
}

void Store::trim(uint64_t bytes) const {
  struct File {
    llvm::sys::TimePoint<> used;
    std::string path;
    uint64_t bytes;
  };
  std::vector<File> files;
  uint64_t all = 0;
  std::error_code ec;
  for (llvm::sys::fs::directory_iterator it(root, ec), end; !ec && it != end; it.increment(ec)) {
    llvm::sys::fs::file_status status;
    if (!isCandidate(llvm::sys::path::filename(it->path())) ||
        llvm::sys::fs::status(it->path(), status))
      continue;
    files.push_back({status.getLastModificationTime(), it->path(), status.getSize()});
    all += status.getSize();
  }
  llvm::sort(files, [](const File &a, const File &b) {
    return std::tie(a.used, a.path) < std::tie(b.used, b.path);
  });
  for (const File &file : files) {
    if (all <= bytes)
      break;
    llvm::sys::fs::remove(file.path);
    all -= file.bytes;
  }
}

Error Store::put(StringRef key, llvm::ArrayRef<uint8_t> payload,
                 llvm::ArrayRef<double> numbers) const {
  std::vector<uint8_t> all(payload);
  auto *raw = reinterpret_cast<const uint8_t *>(numbers.data());
  all.insert(all.end(), raw, raw + numbers.size() * sizeof(double));
  uint64_t hash = llvm::xxh3_64bits(all);
  Expected<OutputFile> file = OutputFile::create(path(key), /*force=*/true);
  if (!file)
    return file.takeError();
  file->stream().write(reinterpret_cast<const char *>(all.data()), all.size());
  file->stream().write(reinterpret_cast<const char *>(&hash), sizeof(hash));
  return file->keep();
}
