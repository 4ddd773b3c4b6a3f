//===- Status.h - What went wrong, without exceptions -----------*- C++ -*-===//
//
// The runtime reports failures as a code (the C API's) and one clear message.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_RUNTIME_STATUS_H
#define QUERN_RUNTIME_STATUS_H

#include "quern/Runtime/quern.h"
#include <string>
#include <utility>

namespace quern::runtime {

/// Success, or an error code of quern.h and a message that names file, expected and found.
struct [[nodiscard]] Status {
  quern_status code = QUERN_OK;
  std::string message;

  bool ok() const { return code == QUERN_OK; }
  bool failed() const { return code != QUERN_OK; }
  static Status error(quern_status code, std::string message) { return {code, std::move(message)}; }
};

} // namespace quern::runtime

#endif // QUERN_RUNTIME_STATUS_H
