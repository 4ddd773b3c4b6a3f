//===- Sequences.cpp - Activations of sequences, on disk ------------------===//
//
// See Sequences.h.
//
//===----------------------------------------------------------------------===//
#include "Sequences.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/xxhash.h"
#include <unistd.h>

using namespace quern::quantize;
using llvm::ArrayRef;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

static ArrayRef<uint8_t> bytesOf(ArrayRef<float> rows) {
  return ArrayRef(reinterpret_cast<const uint8_t *>(rows.data()), rows.size() * sizeof(float));
}

Expected<SequenceWriter> SequenceWriter::create(StringRef path) {
  SequenceWriter out(path);
  std::error_code ec;
  out.os = std::make_unique<llvm::raw_fd_ostream>(out.path + ".part", ec);
  if (ec)
    return createStringError("cannot write '" + path + "': " + ec.message());
  return out;
}

SequenceWriter::~SequenceWriter() {
  if (!os)
    return;
  os->clear_error();
  os.reset();
  llvm::sys::fs::remove(path + ".part");
}

void SequenceWriter::add(ArrayRef<float> rows) {
  uint64_t hash = llvm::xxh3_64bits(bytesOf(rows));
  *os << llvm::toStringRef(bytesOf(rows))
      << StringRef(reinterpret_cast<const char *>(&hash), sizeof(hash));
}

Error SequenceWriter::keep() {
  os->flush();
  std::error_code ec = os->error();
  if (!ec)
    ec = llvm::sys::fs::rename(path + ".part", path);
  if (ec)
    return createStringError("cannot write '" + path + "': " + ec.message());
  os.reset();
  return Error::success();
}

Expected<SequenceReader> SequenceReader::open(StringRef path) {
  SequenceReader out(path);
  if (std::error_code ec = llvm::sys::fs::openFileForRead(path, out.file))
    return createStringError("cannot read '" + path + "': " + ec.message());
  return out;
}

SequenceReader::~SequenceReader() {
  if (file >= 0)
    close(file);
}

/// All of `size` bytes.
static bool readAll(int file, void *data, size_t size) {
  auto *to = static_cast<char *>(data);
  while (size > 0) {
    ssize_t n = ::read(file, to, size);
    if (n <= 0)
      return false;
    to += n;
    size -= size_t(n);
  }
  return true;
}

Error SequenceReader::next(size_t count, std::vector<float> &rows) {
  rows.resize(count);
  uint64_t hash = 0;
  if (!readAll(file, rows.data(), count * sizeof(float)) || !readAll(file, &hash, sizeof(hash)) ||
      hash != llvm::xxh3_64bits(bytesOf(rows)))
    return createStringError("'" + path + "' is damaged; remove it to begin again");
  return Error::success();
}
