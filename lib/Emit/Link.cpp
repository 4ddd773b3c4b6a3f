//===- Link.cpp - lld in process ------------------------------------------===//
//
// Builds the linker's command line; the link folder is complete, so nothing is
// searched on the machine.
//
//===----------------------------------------------------------------------===//
#include "quern/Emit/Link.h"
#include "lld/Common/Driver.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Object/Archive.h"
#include "llvm/Object/ArchiveWriter.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"
#include <mutex>
#include <set>

LLD_HAS_DRIVER(elf)

using namespace llvm;

namespace quern::emit {

static const char *const needed[] = {
    "Scrt1.o",       "crti.o",      "crtbeginS.o",      "crtendS.o",   "crtn.o",
    "libquern_rt.a", "libstdc++.a", "libgcc.a",         "libgcc_eh.a", "libpcre2-8.a",
    "libc.so.6",     "libm.so.6",   "libc_nonshared.a", "exports.map", "libquern_program.a"};

Expected<std::string> linkDirectory() {
  if (auto chosen = sys::Process::GetEnv("QUERN_LINK_DIR"))
    return *chosen;
  std::string self = sys::fs::getMainExecutable(nullptr, reinterpret_cast<void *>(&linkDirectory));
  std::string tried;
  for (StringRef relative : {"../lib/quern", "quern", "lib/quern"}) {
    SmallString<256> path(sys::path::parent_path(self));
    sys::path::append(path, relative);
    sys::path::remove_dots(path, /*remove_dot_dot=*/true);
    if (sys::fs::exists(path + "/libquern_rt.a"))
      return path.str().str();
    tried += " " + path.str().str();
  }
  return createStringError("cannot find libquern_rt.a, which emitted programs are linked with; "
                           "looked in:" +
                           tried + " (set QUERN_LINK_DIR)");
}

static Error checkDirectory(StringRef dir) {
  for (const char *name : needed)
    if (!sys::fs::exists(dir + "/" + name))
      return createStringError("cannot link: '" + dir + "/" + name + "' is missing");
  return Error::success();
}

static Error runLinker(ArrayRef<std::string> arguments) {
  static std::mutex mutex; // lld keeps its state in globals
  std::lock_guard<std::mutex> lock(mutex);
  static bool usable = true;
  if (!usable)
    return createStringError("the linker cannot run again after an earlier failure");
  SmallVector<const char *> argv;
  for (const std::string &a : arguments)
    argv.push_back(a.c_str());
  std::string messages;
  raw_string_ostream os(messages);
  lld::Result result = lld::lldMain(argv, os, os, {{lld::Gnu, &lld::elf::link}});
  usable = result.canRunAgain;
  if (result.retCode != 0)
    return createStringError("linking failed: " + StringRef(messages).trim());
  return Error::success();
}

Error link(ImageKind kind, ArrayRef<std::string> objects, StringRef output) {
  std::vector<std::string> args = {"ld.lld", "-o", output.str(), "--build-id=none", "--threads=1"};
  if (kind == ImageKind::Relocatable) {
    args.push_back("-r");
    args.insert(args.end(), objects.begin(), objects.end());
    return runLinker(args);
  }
  Expected<std::string> dir = linkDirectory();
  if (!dir)
    return dir.takeError();
  if (Error e = checkDirectory(*dir))
    return e;
  auto file = [&](const char *name) { return *dir + "/" + name; };
  bool shared = kind == ImageKind::Shared, code = kind == ImageKind::Code;
  bool start = kind == ImageKind::Start;
  for (const char *a : {"--gc-sections", "--icf=all", "--strip-all", "--hash-style=gnu", "-z",
                        "now", "-z", "noexecstack"})
    args.push_back(a);
  // A start has a dozen addresses to protect and no use for section headers: 2 KB.
  if (start)
    args.insert(args.end(), {"-z", "norelro", "-z", "nosectionheader"});
  if (shared) {
    args.insert(args.end(), {"--eh-frame-hdr", "-shared", "-soname",
                             sys::path::filename(output).str(),
                             "--version-script=" + file("exports.map")});
    // Nothing refers to the C API yet: pull its object out of the archive.
    args.insert(args.end(), {"-u", "quern_load"});
  } else if (code) {
    args.insert(args.end(), {"-pie", "--no-dynamic-linker", "-z", "nocopyreloc", "-e",
                             "quern_main"});
  } else {
    args.insert(args.end(),
                {"-pie", "--dynamic-linker", "/lib64/ld-linux-x86-64.so.2", file("Scrt1.o")});
  }
  // What calls constructors and destructors, of which a start has none.
  bool constructs = !code && !start;
  if (constructs)
    args.insert(args.end(), {file("crti.o"), file("crtbeginS.o")});
  args.insert(args.end(), objects.begin(), objects.end());
  // Programs throw nothing: they need neither an unwinder nor the C++ library.
  if (shared)
    args.insert(args.end(), {file("libquern_rt.a"), file("libpcre2-8.a"), file("libstdc++.a")});
  else
    args.insert(args.end(), {file("libquern_program.a"), file("libpcre2-8.a")});
  // Code that is unpacked later finds libm only where the program asked for it.
  args.insert(args.end(), {shared ? "--as-needed" : "--no-as-needed", file("libm.so.6"),
                           "--no-as-needed", file("libgcc.a")});
  if (shared)
    args.push_back(file("libgcc_eh.a"));
  args.insert(args.end(), {file("libc.so.6"), file("libc_nonshared.a"), file("libgcc.a")});
  if (constructs)
    args.insert(args.end(), {file("crtendS.o"), file("crtn.o")});
  return runLinker(args);
}

/// Appends every member of an archive on disk; `buffers` keeps the bytes alive.
static Error appendMembers(StringRef path, std::vector<NewArchiveMember> &members,
                           std::vector<std::unique_ptr<MemoryBuffer>> &buffers) {
  auto buffer = MemoryBuffer::getFile(path);
  if (!buffer)
    return createStringError("cannot read '" + path + "': " + buffer.getError().message());
  buffers.push_back(std::move(*buffer));
  auto archive = object::Archive::create(buffers.back()->getMemBufferRef());
  if (!archive)
    return archive.takeError();
  Error error = Error::success();
  for (const object::Archive::Child &child : (*archive)->children(error)) {
    auto contents = child.getMemoryBufferRef();
    if (!contents)
      return contents.takeError();
    // Copied: the archive object goes out of scope, and paths inside must not matter.
    buffers.push_back(MemoryBuffer::getMemBufferCopy(
        contents->getBuffer(), sys::path::filename(contents->getBufferIdentifier())));
    members.emplace_back(buffers.back()->getMemBufferRef());
  }
  return error;
}

Error archive(ArrayRef<std::string> objects, StringRef output) {
  Expected<std::string> dir = linkDirectory();
  if (!dir)
    return dir.takeError();
  std::vector<NewArchiveMember> members;
  std::vector<std::unique_ptr<MemoryBuffer>> buffers;
  for (const std::string &path : objects) {
    auto buffer = MemoryBuffer::getFile(path);
    if (!buffer)
      return createStringError("cannot read '" + path + "': " + buffer.getError().message());
    buffers.push_back(
        MemoryBuffer::getMemBufferCopy((*buffer)->getBuffer(), sys::path::filename(path)));
    members.emplace_back(buffers.back()->getMemBufferRef());
  }
  for (const char *name : {"libquern_rt.a", "libpcre2-8.a"})
    if (Error e = appendMembers(*dir + "/" + name, members, buffers))
      return e;
  return writeArchive(output, members, SymtabWritingMode::NormalSymtab, object::Archive::K_GNU,
                      /*Deterministic=*/true, /*Thin=*/false);
}

} // namespace quern::emit
