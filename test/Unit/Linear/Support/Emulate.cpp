//===- Emulate.cpp - Run kernels of another architecture under qemu -------===//
//
// A freestanding program around the kernel's object reads its arguments from standard input
// and writes the result to standard output; nothing of a foreign C library is needed.
//
//===----------------------------------------------------------------------===//
#include "KernelJit.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/raw_ostream.h"
#include <cstring>

using namespace llvm;
using namespace quern;
using namespace quern::test;

static const char *const program = R"(
typedef long i64;
void linear(void *, void *, void *, void *, void *, i64, i64, i64);
__attribute__((weak)) void quantize(void *, void *, i64, i64);
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
static void readAll(char *at, i64 size) {
  while (size > 0) {
    i64 got = call(63, 0, (i64)at, size);
    if (got <= 0) call(93, 2, 0, 0);
    at += got, size -= got;
  }
}
void _start(void) {
  i64 header[9];
  readAll((char *)header, sizeof header);
  char *at = data, *buffers[5];
  for (int i = 0; i < 5; ++i) {
    buffers[i] = at;
    readAll(at, header[1 + i]);
    at += (header[1 + i] + 127) / 64 * 64;
  }
  if (header[0])
    linear(buffers[0], buffers[1], buffers[2], buffers[3], buffers[4], header[6], header[7], header[8]);
  else
    quantize(buffers[0], buffers[4], header[6], header[7]);
  char *out = buffers[4];
  for (i64 left = header[5]; left > 0;) {
    i64 put = call(64, 1, (i64)out, left);
    if (put <= 0) call(93, 3, 0, 0);
    out += put, left -= put;
  }
  call(93, 0, 0, 0);
}
)";

namespace {
struct Piece {
  const void *data;
  size_t size;
};

/// A directory that goes when the kernel does.
struct Folder {
  SmallString<128> path;
  ~Folder() { sys::fs::remove_directories(path); }
  std::string file(StringRef name) const { return (path + "/" + name).str(); }
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

/// Runs the program on five buffers, the last of which it changes.
static void emulate(const Folder &folder, StringRef emulator, bool linear, ArrayRef<Piece> buffers,
                    void *out, ArrayRef<int64_t> numbers) {
  int64_t header[9] = {linear};
  for (int i = 0; i < 5; ++i)
    header[1 + i] = buffers[i].size;
  llvm::copy(numbers, header + 6);
  SmallVector<Piece> pieces = {{header, sizeof header}};
  pieces.append(buffers.begin(), buffers.end());
  cantFail(writeFile(folder.file("in"), pieces));
  std::string program = folder.file("program"), in = folder.file("in"), result = folder.file("out");
  sys::fs::remove(result); // it would not be cut to its new length
  int status = sys::ExecuteAndWait(emulator, {emulator, program}, std::nullopt,
                                   {StringRef(in), StringRef(result), std::nullopt});
  auto bytes = MemoryBuffer::getFile(result);
  if (status != 0 || !bytes || (*bytes)->getBufferSize() != buffers[4].size)
    report_fatal_error("the emulated kernel failed, status " + Twine(status));
  std::memcpy(out, (*bytes)->getBufferStart(), buffers[4].size);
}

Expected<Kernel> test::emulateKernel(const conversion::LinearDesc &desc,
                                     const target::TargetInfo &target) {
  Kernel kernel;
  auto emulator = sys::findProgramByName("qemu-aarch64");
  auto compiler = sys::findProgramByName("clang-22");
  if (!emulator || !compiler)
    return kernel;
  auto object = translateKernel(desc, target, Output::Object, &kernel);
  if (!object)
    return object.takeError();
  auto folder = std::make_shared<Folder>();
  if (std::error_code failed = sys::fs::createUniqueDirectory("quern-kernel", folder->path))
    return errorCodeToError(failed);
  std::string source = folder->file("main.c"), code = folder->file("kernel.o"),
              output = folder->file("program");
  if (Error error = writeFile(source, {{program, std::strlen(program)}}))
    return error;
  if (Error error = writeFile(code, {{object->data(), object->size()}}))
    return error;
  if (sys::ExecuteAndWait(*compiler, {*compiler, "--target=aarch64-linux-gnu", "-nostdlib",
                                      "-static", "-ffreestanding", "-O1", "-fuse-ld=lld", source,
                                      code, "-o", output}) != 0)
    return createStringError("cannot link the emulated kernel");
  auto layout = format::PackedLayout::get(desc.weight, desc.n, desc.k);
  if (!layout)
    return layout.takeError();
  auto act = conversion::ActivationLayout::get(desc.activation, desc.k);
  size_t rows = desc.maxTokens * desc.k * 4, coded = desc.maxTokens * act.bytes;
  size_t outputs = desc.maxTokens * desc.n * 4, biases = desc.n * 4, weights = layout->bytes();
  bool isFloat = desc.activation == conversion::Activation::F32;
  kernel.linear = [=, path = *emulator](const void *x, const void *weight, const float *bias,
                                        const float *residual, float *out, int64_t tokens,
                                        int64_t begin, int64_t end) {
    emulate(*folder, path, true,
            {{x, isFloat ? rows : coded},
             {weight, weights},
             {bias, biases},
             {residual, outputs},
             {out, outputs}},
            out, {tokens, begin, end});
  };
  if (!isFloat)
    kernel.quantize = [=, path = *emulator](const float *x, void *dest, int64_t begin,
                                            int64_t end) {
      emulate(*folder, path, false, {{x, rows}, {x, 0}, {x, 0}, {x, 0}, {dest, coded}}, dest,
              {begin, end, 0});
    };
  return kernel;
}
