//===- Link.h - Executables and libraries, linked in process ----*- C++ -*-===//
//
// lld as a library. What is linked besides the generated objects (the runtime, PCRE2,
// libstdc++ and the C start files) lies in one folder beside the tool, so that the
// result is the same on every machine and needs no compiler there.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_EMIT_LINK_H
#define QUERN_EMIT_LINK_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"
#include <string>

namespace quern::emit {

enum class ImageKind {
  Executable,  ///< position-independent, needs only libc
  Code,        ///< all of an executable but its start, from `quern_main` on: for packCode()
  Start,       ///< an executable that is little more than what packCode() gave
  Shared,      ///< exports the functions of quern.h
  Relocatable, ///< the generated objects as one, without the runtime
};

/// The folder with libquern_rt.a and what it needs: $QUERN_LINK_DIR, or lib/quern beside the
/// folder of the tool (or library) this code runs in.
llvm::Expected<std::string> linkDirectory();

/// Links object files into `output` (overwritten).
llvm::Error link(ImageKind kind, llvm::ArrayRef<std::string> objects, llvm::StringRef output);

/// Writes a static archive of the objects, the runtime and PCRE2; its users add
/// `-lstdc++ -lm -lpthread`.
llvm::Error archive(llvm::ArrayRef<std::string> objects, llvm::StringRef output);

} // namespace quern::emit

#endif // QUERN_EMIT_LINK_H
