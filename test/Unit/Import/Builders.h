//===- Builders.h - Makes model files for tests -----------------*- C++ -*-===//
//
// Small GGUF and safetensors files in memory, right unless a test spoils them.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_TEST_UNIT_IMPORT_BUILDERS_H
#define QUERN_TEST_UNIT_IMPORT_BUILDERS_H

#include "quern/Import/ModelFile.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "gtest/gtest.h"
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

namespace quern::test {

/// Little-endian bytes, appended one after the other.
struct Bytes {
  std::string data;
  template <typename T> Bytes &put(T value) {
    data.append(reinterpret_cast<const char *>(&value), sizeof(T));
    return *this;
  }
  Bytes &raw(const std::string &bytes) {
    data += bytes;
    return *this;
  }
  Bytes &string(const std::string &text) { return put(uint64_t(text.size())).raw(text); }
};

using quern::import::MetadataType;

/// A GGUF file under construction.
struct Gguf {
  std::string magic = "GGUF";
  uint32_t version = 3;
  std::vector<std::string> keys, tensors;
  std::string data;
  uint64_t alignment = 32;
  uint64_t extraKeys = 0, extraTensors = 0; ///< added to the declared counts

  template <typename T> Gguf &key(const std::string &name, MetadataType type, T value) {
    keys.push_back(Bytes().string(name).put(uint32_t(type)).put(value).data);
    return *this;
  }
  Gguf &u32(const std::string &name, uint32_t value) {
    return key(name, MetadataType::UInt32, value);
  }
  Gguf &f32(const std::string &name, float value) {
    return key(name, MetadataType::Float32, value);
  }
  Gguf &text(const std::string &name, const std::string &value) {
    keys.push_back(Bytes().string(name).put(uint32_t(MetadataType::String)).string(value).data);
    return *this;
  }
  Gguf &strings(const std::string &name, const std::vector<std::string> &values) {
    Bytes b;
    b.string(name)
        .put(uint32_t(MetadataType::Array))
        .put(uint32_t(MetadataType::String))
        .put(uint64_t(values.size()));
    for (const std::string &value : values)
      b.string(value);
    keys.push_back(b.data);
    return *this;
  }
  Gguf &rawKey(const std::string &bytes) {
    keys.push_back(bytes);
    return *this;
  }
  /// `dims` fastest first, as in the file.
  Gguf &tensorAt(const std::string &name, const std::vector<uint64_t> &dims, uint32_t type,
                 uint64_t offset) {
    Bytes b;
    b.string(name).put(uint32_t(dims.size()));
    for (uint64_t d : dims)
      b.put(d);
    tensors.push_back(b.put(type).put(offset).data);
    return *this;
  }
  /// A tensor whose bytes are appended to the data.
  Gguf &tensor(const std::string &name, const std::vector<uint64_t> &dims, uint32_t type,
               const std::string &bytes) {
    data.resize((data.size() + alignment - 1) / alignment * alignment);
    tensorAt(name, dims, type, data.size());
    data += bytes;
    return *this;
  }
  std::string bytes() const {
    Bytes b;
    b.raw(magic)
        .put(version)
        .put(uint64_t(tensors.size()) + extraTensors)
        .put(uint64_t(keys.size()) + extraKeys);
    for (const std::string &k : keys)
      b.raw(k);
    for (const std::string &t : tensors)
      b.raw(t);
    if (!tensors.empty())
      b.data.resize((b.data.size() + alignment - 1) / alignment * alignment);
    return b.data + data;
  }
};

inline std::string floats(const std::vector<float> &values) {
  return std::string(reinterpret_cast<const char *>(values.data()), values.size() * 4);
}

/// A .safetensors file of a header and data.
inline std::string safetensors(const std::string &header, const std::string &data = "") {
  return Bytes().put(uint64_t(header.size())).raw(header).raw(data).data;
}

/// A directory that goes away with the test.
class Scratch {
public:
  Scratch() { EXPECT_FALSE(llvm::sys::fs::createUniqueDirectory("quern-import", path)); }
  ~Scratch() { llvm::sys::fs::remove_directories(path); }
  std::string file(const std::string &name) const {
    llvm::SmallString<128> full(path);
    llvm::sys::path::append(full, name);
    return std::string(full);
  }
  std::string write(const std::string &name, const std::string &bytes) const {
    std::ofstream(file(name), std::ios::binary) << bytes;
    return file(name);
  }
  std::string directory() const { return std::string(path); }

private:
  llvm::SmallString<128> path;
};

/// The message open() fails with, or "(no error)".
inline std::string openError(const std::string &path) {
  auto model = quern::import::open(path);
  return model ? "(no error)" : llvm::toString(model.takeError());
}

} // namespace quern::test

#define EXPECT_CONTAINS(text, part)                                                                \
  do {                                                                                             \
    std::string text_ = (text);                                                                    \
    EXPECT_NE(text_.find(part), std::string::npos) << "in: " << text_;                             \
  } while (0)

#endif
