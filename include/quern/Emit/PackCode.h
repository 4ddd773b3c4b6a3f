//===- PackCode.h - A linked image as one packed stream ---------*- C++ -*-===//
//
// The writing half of quern/Runtime/PackedCode.h.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_EMIT_PACKCODE_H
#define QUERN_EMIT_PACKCODE_H

#include "llvm/IR/Module.h"
#include "llvm/Support/Error.h"
#include <memory>
#include <vector>

namespace quern::emit {

/// The header and the stream of an image that link() made with ImageKind::Code.
llvm::Expected<std::vector<uint8_t>> packCode(llvm::StringRef path);

/// A module whose `main` unpacks these bytes, which it holds, and calls what they are.
std::unique_ptr<llvm::Module> buildUnpackingMain(llvm::LLVMContext &context,
                                                 llvm::ArrayRef<uint8_t> packed);

} // namespace quern::emit

#endif // QUERN_EMIT_PACKCODE_H
