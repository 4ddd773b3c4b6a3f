//===- Json.h - JSON that may be hostile ------------------------*- C++ -*-===//
//
// llvm::json::parse recurses as deep as a text nests, and llvm::json converts doubles
// to integers without a look at their range, which is undefined for those beyond it.
// Everything that reads a file asks here instead.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_SUPPORT_JSON_H
#define QUERN_SUPPORT_JSON_H

#include "llvm/Support/JSON.h"
#include <optional>

namespace quern {

/// A JSON text of at most 64 levels; repeated keys are errors. Errors begin with `path`.
llvm::Expected<llvm::json::Value> parseJson(llvm::StringRef text, llvm::StringRef path);

/// The value as an integer; none for null pointers, other kinds, fractions, and doubles of 2^63
/// and beyond.
inline std::optional<int64_t> integerOf(const llvm::json::Value *value) {
  std::optional<double> number = value ? value->getAsNumber() : std::nullopt;
  if (!number || !(*number < 9223372036854775808.0 && *number >= -9223372036854775808.0))
    return std::nullopt;
  return value->getAsInteger();
}

inline std::optional<int64_t> integerOf(const llvm::json::Value &value) {
  return integerOf(&value);
}

/// The object's member as an integer.
inline std::optional<int64_t> integerOf(const llvm::json::Object &object, llvm::StringRef key) {
  return integerOf(object.get(key));
}

} // namespace quern

#endif // QUERN_SUPPORT_JSON_H
