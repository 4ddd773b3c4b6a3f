//===- Foreign.cpp - Runs AArch64 code under qemu-user --------------------===//
//
// The program is written and compiled for the functions at hand.
//
//===----------------------------------------------------------------------===//
#include "Foreign.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/raw_ostream.h"
#include <cstring>

using namespace llvm;
using namespace quern;
using namespace quern::test;

static const char *const prologue = R"(
typedef long i64;
void *memset(void *p, int c, unsigned long n) {
  for (unsigned long i = 0; i < n; ++i) ((volatile char *)p)[i] = c;
  return p;
}
void *memcpy(void *d, const void *s, unsigned long n) {
  for (unsigned long i = 0; i < n; ++i) ((volatile char *)d)[i] = ((const char *)s)[i];
  return d;
}
static i64 call(i64 number, i64 a, i64 b, i64 c) {
  register i64 x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b,
               x2 __asm__("x2") = c;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
  return x0;
}
static char data[1 << 26] __attribute__((aligned(64)));
/* Number 63 reads, 64 writes, 93 exits. */
static void transfer(i64 number, char *at, i64 size) {
  while (size > 0) {
    i64 done = call(number, number == 64, (i64)at, size);
    if (done <= 0) call(93, 2, 0, 0);
    at += done, size -= done;
  }
}
static char *b[16];
static i64 n[8], sizes[16];
)";

static const char *const epilogue = R"(
void _start(void) {
  i64 header[2];
  transfer(63, (char *)header, sizeof header);
  transfer(63, (char *)n, sizeof n);
  transfer(63, (char *)sizes, sizeof sizes);
  char *at = data;
  for (i64 i = 0; i < header[1]; ++i) {
    b[i] = at;
    transfer(63, at, sizes[i]);
    at += (sizes[i] + 127) / 64 * 64;
  }
  run(header[0]);
  for (i64 i = 0; i < header[1]; ++i)
    transfer(64, b[i], sizes[i]);
  call(93, 0, 0, 0);
}
)";

/// Declarations of the functions, and `run`, which calls one by its number.
static std::string callers(ArrayRef<ForeignFunction> functions) {
  std::string text, cases;
  for (auto [i, f] : llvm::enumerate(functions)) {
    std::string types, arguments;
    auto add = [&](StringRef type, const char *array, size_t count) {
      for (size_t j = 0; j < count; ++j) {
        StringRef comma = types.empty() ? "" : ", ";
        types += (comma + type).str();
        arguments += (comma + array + "[" + Twine(j) + "]").str();
      }
    };
    add("void *", "b", f.bufferSizes.size());
    add("i64", "n", f.integers);
    text += "void " + f.name + "(" + types + ");\n";
    cases += ("  case " + Twine(i) + ": " + f.name + "(" + arguments + "); break;\n").str();
  }
  return text + "static void run(i64 function) {\n  switch (function) {\n" + cases + "  }\n}\n";
}

namespace {
struct Piece {
  const void *data;
  size_t size;
};
} // namespace

static Error writeFile(StringRef path, ArrayRef<Piece> pieces) {
  std::error_code failed;
  raw_fd_ostream stream(path, failed);
  if (failed)
    return errorCodeToError(failed);
  for (Piece piece : pieces)
    stream.write(static_cast<const char *>(piece.data), piece.size);
  return Error::success();
}

bool ForeignProgram::available() {
  return sys::findProgramByName("qemu-aarch64") && sys::findProgramByName("clang-22");
}

Expected<std::unique_ptr<ForeignProgram>>
ForeignProgram::link(StringRef object, std::vector<ForeignFunction> functions) {
  auto emulator = sys::findProgramByName("qemu-aarch64");
  auto compiler = sys::findProgramByName("clang-22");
  if (!emulator || !compiler)
    return createStringError("qemu-aarch64 or clang-22 is missing");
  std::unique_ptr<ForeignProgram> program(new ForeignProgram);
  program->emulator = *emulator;
  if (std::error_code failed = sys::fs::createUniqueDirectory("quern-kernel", program->folder))
    return errorCodeToError(failed);
  std::string text = prologue + callers(functions) + epilogue;
  program->functions = std::move(functions);
  std::string source = program->file("main.c"), code = program->file("kernel.o"),
              output = program->file("program");
  if (Error error = writeFile(source, {{text.data(), text.size()}}))
    return error;
  if (Error error = writeFile(code, {{object.data(), object.size()}}))
    return error;
  if (sys::ExecuteAndWait(*compiler, {*compiler, "--target=aarch64-linux-gnu", "-nostdlib",
                                      "-static", "-ffreestanding", "-O1", "-fuse-ld=lld", source,
                                      code, "-o", output}) != 0)
    return createStringError("cannot link the foreign program");
  return std::move(program);
}

ForeignProgram::~ForeignProgram() {
  if (!folder.empty())
    sys::fs::remove_directories(folder);
}

void ForeignProgram::call(StringRef name, ArrayRef<void *> buffers,
                          ArrayRef<int64_t> integers) const {
  auto function =
      llvm::find_if(functions, [&](const ForeignFunction &f) { return f.name == name; });
  if (function == functions.end() || function->bufferSizes.size() != buffers.size() ||
      function->integers != integers.size() || buffers.size() > 16 || integers.size() > 8)
    report_fatal_error("no foreign function '" + name + "' takes these arguments");
  int64_t header[2 + 8 + 16] = {function - functions.begin(), int64_t(buffers.size())};
  llvm::copy(integers, header + 2);
  SmallVector<Piece> pieces = {{header, sizeof header}};
  size_t total = 0;
  for (auto [i, size] : llvm::enumerate(function->bufferSizes)) {
    header[10 + i] = size;
    pieces.push_back({buffers[i], size});
    total += size;
  }
  std::string in = file("in"), out = file("out"), program = file("program");
  cantFail(writeFile(in, pieces));
  sys::fs::remove(out); // it would not be cut to its new length
  int status = sys::ExecuteAndWait(emulator, {emulator, program}, std::nullopt,
                                   {StringRef(in), StringRef(out), std::nullopt});
  auto bytes = MemoryBuffer::getFile(out);
  if (status != 0 || !bytes || (*bytes)->getBufferSize() != total)
    report_fatal_error("the foreign program failed, status " + Twine(status));
  const char *from = (*bytes)->getBufferStart();
  for (auto [i, size] : llvm::enumerate(function->bufferSizes)) {
    std::memcpy(buffers[i], from, size);
    from += size;
  }
}
