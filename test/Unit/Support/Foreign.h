//===- Foreign.h - Runs AArch64 code under qemu-user ------------*- C++ -*-===//
//
// A freestanding program around an object file reads buffers from standard input, calls a function
// on them, and writes them to standard output; nothing of a foreign C library is needed.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_TEST_UNIT_SUPPORT_FOREIGN_H
#define QUERN_TEST_UNIT_SUPPORT_FOREIGN_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/Error.h"
#include <memory>
#include <string>

namespace quern::test {

/// A function of the object: it takes pointers to its buffers, then integers of 64 bits.
struct ForeignFunction {
  std::string name;
  llvm::SmallVector<size_t> bufferSizes; ///< in bytes
  size_t integers = 3;
};

class ForeignProgram {
public:
  /// Whether qemu-aarch64 and a cross compiler are there.
  static bool available();
  static llvm::Expected<std::unique_ptr<ForeignProgram>>
  link(llvm::StringRef object, std::vector<ForeignFunction> functions);
  ~ForeignProgram();

  /// Calls a function in a process of its own; the buffers are what it leaves in them. A failure
  /// ends the test program.
  void call(llvm::StringRef name, llvm::ArrayRef<void *> buffers,
            llvm::ArrayRef<int64_t> integers) const;

private:
  ForeignProgram() = default;
  std::string file(llvm::StringRef name) const { return (folder + "/" + name).str(); }

  llvm::SmallString<128> folder; ///< goes when the program does
  std::string emulator;
  std::vector<ForeignFunction> functions;
};

} // namespace quern::test

#endif // QUERN_TEST_UNIT_SUPPORT_FOREIGN_H
