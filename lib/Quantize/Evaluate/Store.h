//===- Store.h - What a run has found out so far ----------------*- C++ -*-===//
//
// A folder of results, each under the hash of everything it depends on. A run that was interrupted
// finds there what it had done, and one with other options what they have in common.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_EVALUATE_STORE_H
#define QUERN_LIB_QUANTIZE_EVALUATE_STORE_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <optional>
#include <string>
#include <vector>

namespace quern::quantize {

/// The hash of what a result depends on, as 32 hexadecimal digits.
class Key {
public:
  explicit Key(llvm::StringRef kind) { add(kind); }
  Key &add(llvm::ArrayRef<uint8_t> bytes);
  Key &add(llvm::StringRef text) {
    return add(llvm::ArrayRef(reinterpret_cast<const uint8_t *>(text.data()), text.size()));
  }
  Key &add(const char *text) { return add(llvm::StringRef(text)); }
  Key &add(double value) {
    return add(llvm::ArrayRef(reinterpret_cast<const uint8_t *>(&value), sizeof(value)));
  }
  template <typename T> Key &addAll(llvm::ArrayRef<T> values) {
    return add(llvm::ArrayRef(reinterpret_cast<const uint8_t *>(values.data()),
                              values.size() * sizeof(T)));
  }
  std::string digits() const;

private:
  std::vector<uint8_t> parts; ///< hashes of what was added
};

class Store {
public:
  /// Opens or makes the folder; an empty path means a temporary one.
  static llvm::Expected<Store> create(llvm::StringRef folder);
  Store(Store &&other) noexcept : root(std::exchange(other.root, "")), removed(other.removed) {}
  /// Removes the folder if it is temporary or `removeAtEnd` was called.
  ~Store();
  void removeAtEnd() { removed = true; }

  const std::string &folder() const { return root; }
  std::string path(llvm::StringRef key) const { return root + "/" + key.str(); }
  /// The numbers stored under a key beside a payload of `bytes` bytes, which are the first of the
  /// file at path(key). Nothing if there is none, or it is damaged.
  std::optional<std::vector<double>> find(llvm::StringRef key, uint64_t bytes,
                                          size_t numbers) const;
  /// Written aside, then renamed.
  llvm::Error put(llvm::StringRef key, llvm::ArrayRef<uint8_t> payload,
                  llvm::ArrayRef<double> numbers) const;

  /// Removes candidates until all together have at most so many bytes, those first that no run has
  /// used for longest. Other files are left alone.
  void trim(uint64_t bytes) const;

private:
  Store() = default;
  std::string root;
  bool removed = false;
};

} // namespace quern::quantize

#endif // QUERN_LIB_QUANTIZE_EVALUATE_STORE_H
