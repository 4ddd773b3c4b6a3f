//===- Unpack.cpp - main() of a program with packed code ------------------===//
//
// Unpacks the program's image into memory of its own, completes its addresses, makes what runs
// executable and what does not unwritable, and calls it. No page is ever both writable and
// executable. All of this is the size of the program's start: nothing of the C++ library here.
//
//===----------------------------------------------------------------------===//
#include "quern/Runtime/Hash.h"
#include "quern/Runtime/Lzma.h"
#include "quern/Runtime/PackedCode.h"
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <sys/mman.h>

using namespace quern::runtime;

static int fail(char **argv, const char *what, const char *why) {
  std::fprintf(stderr, "%s: error: %s%s\n", argv[0] ? argv[0] : "model", what, why);
  return 1;
}

extern "C" int quern_unpack(int argc, char **argv, char **environment, const PackedCode *packed) {
  static uint16_t states[lzmaStates];
  size_t room = (packed->size + codePage - 1) / codePage * codePage;
  void *memory =
      mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return fail(argv, "out of memory: cannot allocate memory for the program's code", "");
  auto *base = static_cast<uint8_t *>(memory);
  auto *stream = reinterpret_cast<const uint8_t *>(packed + 1);
  Hash64 hash;
  hash.update(stream, packed->packedSize);
  if (hash.finish() != packed->hash ||
      !decodeLzma(stream, packed->packedSize, base, packed->size, states))
    return fail(argv, "the program's code is damaged", "");
  convertAddresses<false>(base, packed->codeBegin, packed->codeEnd, packed->imageSize);

  auto *numbers = reinterpret_cast<const uint32_t *>(base + packed->imageSize);
  uint8_t *place = base;
  for (uint32_t i = 0; i < packed->relocations; ++i) {
    place += *numbers++;
    *reinterpret_cast<uint64_t *>(place) += uint64_t(base);
  }
  const uint32_t *imports = numbers;
  auto *name = reinterpret_cast<const char *>(numbers + 2 * packed->imports);
  for (uint32_t n = 0; n < packed->names; ++n) {
    const char *version = name + std::strlen(name) + 1;
    void *symbol = dlvsym(RTLD_DEFAULT, name, version);
    if (!symbol)
      return fail(argv, "this system's C library lacks ", name);
    place = base;
    for (uint32_t i = 0; i < packed->imports; ++i) {
      place += imports[2 * i];
      if (imports[2 * i + 1] == n)
        *reinterpret_cast<uint64_t *>(place) += uint64_t(symbol);
    }
    name = version + std::strlen(version) + 1;
  }

  munmap(base + packed->imageSize, room - packed->imageSize);
  if (mprotect(base, packed->codeBegin, PROT_READ) != 0 ||
      mprotect(base + packed->codeBegin, packed->codeEnd - packed->codeBegin,
               PROT_READ | PROT_EXEC) != 0 ||
      mprotect(base + packed->codeEnd, packed->dataBegin - packed->codeEnd, PROT_READ) != 0)
    return fail(argv,
                "this system does not let a program unpack its code (compile it with "
                "--code plain): ",
                std::strerror(errno));
  auto *starters = reinterpret_cast<void (**)(int, char **, char **)>(base + packed->starters);
  for (uint32_t i = 0; i < packed->starterCount; ++i)
    starters[i](argc, argv, environment);
  return reinterpret_cast<int (*)(int, char **)>(base + packed->entry)(argc, argv);
}
