//===- Internal.h - What the files of the C interface share -----*- C++ -*-===//
//
// Callbacks as the caller filled them in, with absent ones made harmless.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_CAPI_INTERNAL_H
#define QUERN_LIB_CAPI_INTERNAL_H

#include "quern-c/quern.h"
#include "quern/Import/ModelFile.h"
#include <cstring>

struct QuernModel {
  quern::import::ModelFile file;
  std::vector<std::string> formats; ///< spelling of each tensor's format
};

namespace quern::capi {

/// Copies a caller's struct of a possibly older version; what it lacks is zero.
template <typename T> T normalized(const T *given) {
  T all;
  std::memset(&all, 0, sizeof all);
  if (given)
    std::memcpy(&all, given, given->size < sizeof all ? given->size : sizeof all);
  return all;
}

class Caller {
public:
  explicit Caller(const QuernCallbacks *given) : callbacks(normalized(given)) {}

  /// Reports an error; returns the status of the call.
  QuernStatus fail(llvm::Error error);
  /// False if the caller asks to stop. Remembers it, so that fail() returns QUERN_STATUS_CANCELLED.
  bool progress(llvm::StringRef phase, double fraction);
  void remark(llvm::StringRef message);

private:
  QuernCallbacks callbacks;
  bool cancelled = false;
};

QuernString makeString(llvm::StringRef text);

/// A C string option, empty if null.
inline std::string text(const char *given) { return given ? given : ""; }

} // namespace quern::capi

#endif // QUERN_LIB_CAPI_INTERNAL_H
