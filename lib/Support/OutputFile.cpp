//===- OutputFile.cpp - Files written aside, then renamed -----------------===//
//
// The temporary file lies in the same folder, so that the rename is atomic.
//
//===----------------------------------------------------------------------===//
#include "quern/Support/OutputFile.h"
#include "llvm/Support/Path.h"

using namespace llvm;

namespace quern {

Error checkWritable(StringRef path, bool force) {
  if (sys::fs::is_directory(path))
    return createStringError("'" + path + "' is a directory; expected the name of a file to write");
  if (!force && sys::fs::exists(path))
    return createStringError("'" + path + "' exists; give --force to overwrite it");
  // Better now than after minutes of work.
  StringRef folder = sys::path::parent_path(path);
  if (folder.empty())
    folder = ".";
  if (!sys::fs::is_directory(folder))
    return createStringError("cannot write '" + path + "': there is no folder '" + folder + "'");
  if (std::error_code code = sys::fs::access(folder, sys::fs::AccessMode::Write))
    return createStringError("cannot write '" + path + "': " + code.message());
  return Error::success();
}

Expected<OutputFile> OutputFile::create(StringRef path, bool force, bool executable) {
  if (Error e = checkWritable(path, force))
    return std::move(e);
  unsigned mode = sys::fs::all_read | sys::fs::owner_write | (executable ? sys::fs::all_exe : 0);
  Expected<sys::fs::TempFile> temp = sys::fs::TempFile::create(path + ".%%%%%%.tmp", mode);
  if (!temp)
    return createStringError("cannot write '" + path + "': " + toString(temp.takeError()));
  return OutputFile(path.str(), std::move(*temp));
}

OutputFile::OutputFile(std::string path, sys::fs::TempFile file)
    : finalPath(std::move(path)), temp(std::move(file)),
      os(std::make_unique<raw_fd_ostream>(temp->FD, /*shouldClose=*/false)) {}

OutputFile::~OutputFile() {
  if (os) {
    os->clear_error();
    os.reset();
  }
  if (temp)
    consumeError(temp->discard());
}

Error OutputFile::keep() {
  os->flush();
  if (std::error_code ec = os->error()) {
    os->clear_error();
    return createStringError("cannot write '" + finalPath + "': " + ec.message());
  }
  os.reset();
  sys::fs::TempFile file = std::move(*temp);
  temp.reset();
  if (Error e = file.keep(finalPath))
    return createStringError("cannot write '" + finalPath + "': " + toString(std::move(e)));
  return Error::success();
}

} // namespace quern
