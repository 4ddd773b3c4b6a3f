//===- Common.h - What the parsers share --------------------------*- C++ -*-===//
//
// A bounds-checked cursor over little-endian bytes, and errors that start with
// the file's name.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_IMPORT_COMMON_H
#define QUERN_LIB_IMPORT_COMMON_H

#include "quern/Support/Json.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"
#include <optional>

namespace quern::import {

inline llvm::Error fileError(llvm::StringRef path, const llvm::Twine &message) {
  return llvm::createStringError(llvm::Twine(path) + ": " + message);
}

/// Reads little-endian values; every read says whether it stayed inside the data.
class Cursor {
public:
  explicit Cursor(llvm::StringRef data) : data(data) {}
  uint64_t position() const { return pos; }
  uint64_t remaining() const { return data.size() - pos; }

  template <typename T> bool read(T &value) {
    if (remaining() < sizeof(T))
      return false;
    value = llvm::support::endian::read<T, llvm::endianness::little>(data.data() + pos);
    pos += sizeof(T);
    return true;
  }
  bool read(llvm::StringRef &value, uint64_t size) {
    if (remaining() < size)
      return false;
    value = data.substr(pos, size);
    pos += size;
    return true;
  }

private:
  llvm::StringRef data;
  uint64_t pos = 0;
};

/// a * b, or false on overflow of 63 bits (so that the result is also a valid file offset).
inline bool multiply(uint64_t a, uint64_t b, uint64_t &result) {
  return !__builtin_mul_overflow(a, b, &result) && result <= uint64_t(INT64_MAX);
}

} // namespace quern::import

#endif
