//===- Files.h - A folder in memory for fuzz targets ------------*- C++ -*-===//
//
// Targets whose parsers open files by name write them to a file system in memory.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_TEST_FUZZ_FILES_H
#define QUERN_TEST_FUZZ_FILES_H

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/ManagedStatic.h"
#include <fcntl.h>
#include <set>
#include <string>
#include <unistd.h>

namespace quern::fuzz {

/// To be called for each input that writes outputs: LLVM keeps the names of files written aside,
/// even after they were renamed, and passes all of them for the next one. A million would take an
/// hour.
inline void forgetOutputs() { llvm::llvm_shutdown(); }

/// Its files are gone after clear(), and the folder itself when the process ends.
class Folder {
public:
  Folder() : root("/dev/shm/quern-fuzz-" + std::to_string(getpid()) + "/") {
    if (llvm::sys::fs::create_directories(root))
      abort();
  }
  ~Folder() { llvm::sys::fs::remove_directories(root); }

  std::string path(const std::string &name) const { return root + name; }
  void write(const std::string &name, const std::string &bytes) {
    int file = ::open(path(name).c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || ::write(file, bytes.data(), bytes.size()) != ssize_t(bytes.size()))
      abort();
    ::close(file);
    names.insert(name);
  }
  /// The first file whose name ends so; empty if there is none.
  std::string first(const std::string &ending) const {
    for (const std::string &name : names)
      if (name.size() >= ending.size() && name.ends_with(ending))
        return path(name);
    return "";
  }
  void clear() {
    forgetOutputs();
    for (const std::string &name : names)
      ::unlink(path(name).c_str());
    names.clear();
    for (const char *name : {"out.gguf", "out.safetensors"})
      ::unlink(path(name).c_str());
    if (::access(path("out").c_str(), F_OK) == 0)
      llvm::sys::fs::remove_directories(path("out"));
  }

private:
  std::string root;
  std::set<std::string> names;
};

} // namespace quern::fuzz

#endif
