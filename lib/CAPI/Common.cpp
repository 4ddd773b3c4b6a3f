//===- Common.cpp - Callbacks, strings and the version --------------------===//
//
// The parts of the C interface that every call uses.
//
//===----------------------------------------------------------------------===//
#include "Internal.h"
#include <cstdlib>

using namespace llvm;

namespace quern::capi {

QuernStatus Caller::fail(Error error) {
  std::string message = toString(std::move(error));
  if (cancelled)
    return QUERN_STATUS_CANCELLED;
  if (callbacks.diagnostic)
    callbacks.diagnostic(callbacks.user, QUERN_SEVERITY_ERROR, message.c_str());
  return QUERN_STATUS_FAILED;
}

bool Caller::progress(StringRef phase, double fraction) {
  if (callbacks.progress && callbacks.progress(callbacks.user, phase.str().c_str(), fraction))
    cancelled = true;
  return !cancelled;
}

void Caller::remark(StringRef message) {
  if (callbacks.diagnostic)
    callbacks.diagnostic(callbacks.user, QUERN_SEVERITY_REMARK, message.str().c_str());
}

QuernString makeString(StringRef text) {
  char *data = static_cast<char *>(std::malloc(text.size() + 1));
  if (!data)
    return {nullptr, 0};
  std::memcpy(data, text.data(), text.size());
  data[text.size()] = 0;
  return {data, text.size()};
}

} // namespace quern::capi

const char *quernVersion(void) { return QUERN_VERSION; }
void quernStringFree(QuernString string) { std::free(string.data); }
