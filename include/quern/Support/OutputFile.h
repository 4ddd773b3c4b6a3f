//===- OutputFile.h - Files written aside, then renamed ---------*- C++ -*-===//
//
// A reader never sees half a file, a failure leaves nothing behind, and nothing is
// overwritten unless asked.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_SUPPORT_OUTPUTFILE_H
#define QUERN_SUPPORT_OUTPUTFILE_H

#include "llvm/Support/Error.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/raw_ostream.h"
#include <optional>

namespace quern {

class OutputFile {
public:
  /// Starts writing `path`. Fails when it exists and `force` is false.
  static llvm::Expected<OutputFile> create(llvm::StringRef path, bool force,
                                           bool executable = false);
  OutputFile(OutputFile &&) = default;
  OutputFile &operator=(OutputFile &&) = delete;
  ~OutputFile();

  llvm::raw_fd_ostream &stream() { return *os; }
  llvm::StringRef path() const { return finalPath; }
  /// Flushes and renames into place.
  llvm::Error keep();

private:
  OutputFile(std::string path, llvm::sys::fs::TempFile file);
  std::string finalPath;
  std::optional<llvm::sys::fs::TempFile> temp;
  std::unique_ptr<llvm::raw_fd_ostream> os;
};

/// Fails with a clear message when `path` exists and `force` is false.
llvm::Error checkWritable(llvm::StringRef path, bool force);

} // namespace quern

#endif // QUERN_SUPPORT_OUTPUTFILE_H
