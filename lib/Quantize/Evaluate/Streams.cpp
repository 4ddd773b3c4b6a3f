//===- Streams.cpp - What leaves each part of the float program -----------===//
//
// A file of [windows][parts - 1][rows][columns] floats. A disk too small for it costs time, no
// more: then all parts are run.
//
//===----------------------------------------------------------------------===//
#include "Streams.h"
#include "llvm/Support/FileSystem.h"
#include <unistd.h>

using namespace quern::quantize;
using llvm::ArrayRef;
using llvm::createStringError;
using llvm::Error;

/// All of `size` bytes, by `call` (pread or pwrite).
template <typename Call, typename Byte>
static bool transfer(Call call, int file, Byte *data, size_t size, size_t offset) {
  while (size > 0) {
    ssize_t n = call(file, data, size, off_t(offset));
    if (n <= 0)
      return false;
    data += n;
    size -= size_t(n);
    offset += size_t(n);
  }
  return true;
}

Streams::Streams(Program &program, size_t rows, llvm::StringRef folder)
    : program(program), rows(rows) {
  llvm::SmallString<128> path;
  if (program.parts() < 2 ||
      llvm::sys::fs::createUniqueFile(folder + "/streams-%%%%%%%%", file, path)) {
    file = -1;
    return;
  }
  llvm::sys::fs::remove(path); // lives as long as it is open
}

Streams::~Streams() {
  if (file >= 0)
    close(file);
}

void Streams::replay(size_t part) {
  recording = false;
  window = 0;
  first = file >= 0 ? part : 0;
}

Error Streams::run(ArrayRef<int32_t> tokens, std::vector<float> &logits) {
  size_t columns = size_t(program.streamColumns());
  if (tokens.size() != rows)
    return createStringError("a window of " + llvm::Twine(rows) + " tokens has " +
                             llvm::Twine(tokens.size()));
  stream.clear();
  if (first > 0) {
    stream.resize(rows * columns);
    if (!transfer(pread, file, reinterpret_cast<char *>(stream.data()),
                  stream.size() * sizeof(float), place(first - 1) * sizeof(float)))
      return createStringError("cannot read back the activations of window " + llvm::Twine(window));
  }
  auto keep = [&](size_t part, size_t row, ArrayRef<float> values) {
    if (recording && file >= 0 &&
        !transfer(pwrite, file, reinterpret_cast<const char *>(values.data()),
                  values.size() * sizeof(float), (place(part) + row * columns) * sizeof(float))) {
      close(file);
      file = -1;
    }
  };
  if (Error e = program.runParts(tokens, first, program.parts(), stream, keep, &logits))
    return e;
  ++window;
  return Error::success();
}
