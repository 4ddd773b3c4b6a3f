//===- Failures.cpp - What ends a program without exceptions --------------===//
//
// Programs are compiled without exceptions: unwinding tables, the unwinder and what handles an
// exception would be a quarter of a small one. Here are the functions that would throw. Only lack
// of memory brings a program here; everything that can be wrong with its input is a Status.
//
//===----------------------------------------------------------------------===//
#include "Cli.h"
#include <cstdio>
#include <cstdlib>
#include <new>
#include <unistd.h>

namespace quern::runtime::cli {

const char *programName = "model";

[[noreturn]] static void die(const char *what) {
  std::fflush(stdout);
  std::fprintf(stderr, "%s: error: %s\n", programName, what);
  _exit(Failure); // other threads run on: nothing they use may be taken down
}

[[noreturn]] static void outOfMemory() { die("out of memory"); }

} // namespace quern::runtime::cli

using namespace quern::runtime::cli;

void *operator new(size_t size) {
  if (void *p = std::malloc(size ? size : 1))
    return p;
  outOfMemory();
}
void *operator new[](size_t size) { return operator new(size); }
void *operator new(size_t size, std::align_val_t alignment) {
  size_t align = size_t(alignment);
  if (void *p = std::aligned_alloc(align, (size + align - 1) / align * align))
    return p;
  outOfMemory();
}
void operator delete(void *p) noexcept { std::free(p); }
void operator delete(void *p, size_t) noexcept { std::free(p); }
void operator delete[](void *p) noexcept { std::free(p); }
void operator delete[](void *p, size_t) noexcept { std::free(p); }
void operator delete(void *p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void *p, size_t, std::align_val_t) noexcept { std::free(p); }

extern "C" void __cxa_pure_virtual() { die("a function without a body was called"); }

// What the C++ library calls for impossible sizes and indices.
namespace std {
void __throw_bad_alloc() { outOfMemory(); }
void __throw_bad_array_new_length() { outOfMemory(); }
void __throw_length_error(const char *) { outOfMemory(); }
void __throw_logic_error(const char *what) { die(what); }
void __throw_out_of_range(const char *what) { die(what); }
void __throw_out_of_range_fmt(const char *what, ...) { die(what); }
void __throw_bad_function_call() { die("an empty function was called"); }
} // namespace std
