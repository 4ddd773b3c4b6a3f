//===- Folder.h - A temporary folder -----------------------------*- C++ -*-===//
//
// Private to lib/Quantize.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_EVALUATE_FOLDER_H
#define QUERN_LIB_QUANTIZE_EVALUATE_FOLDER_H

#include "llvm/ADT/SmallString.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/FileSystem.h"

namespace quern::quantize {

/// It goes, with all that is in it, when this does.
struct Folder {
  llvm::SmallString<128> path;
  Folder() = default;
  Folder(const Folder &) = delete;
  ~Folder() {
    if (!path.empty())
      llvm::sys::fs::remove_directories(path);
  }
  llvm::Error create(llvm::StringRef prefix) {
    if (std::error_code ec = llvm::sys::fs::createUniqueDirectory(prefix, path))
      return llvm::createStringError("cannot create a temporary folder: " + ec.message());
    return llvm::Error::success();
  }
  std::string file(llvm::StringRef name) const { return (path + "/" + name).str(); }
};

} // namespace quern::quantize

#endif // QUERN_LIB_QUANTIZE_EVALUATE_FOLDER_H
