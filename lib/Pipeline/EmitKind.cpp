//===- EmitKind.cpp - Names of the kinds of output ------------------------===//
//
// The one list of what `--emit` accepts.
//
//===----------------------------------------------------------------------===//
#include "quern/Pipeline/Compile.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"

using namespace llvm;

Expected<quern::EmitKind> quern::parseEmitKind(StringRef name) {
  static constexpr std::pair<StringLiteral, EmitKind> kinds[] = {
      {"exe", EmitKind::Executable},    {"shared", EmitKind::Shared}, {"lib", EmitKind::Library},
      {"obj", EmitKind::Object},        {"asm", EmitKind::Assembly},  {"llvm", EmitKind::Llvm},
      {"kernels", EmitKind::Kernels},   {"mlir", EmitKind::Mlir},     {"bytecode", EmitKind::Bytecode},
  };
  SmallVector<StringRef> known;
  for (const auto &[text, kind] : kinds) {
    if (text == name)
      return kind;
    known.push_back(text);
  }
  return createStringError("expected one of " + join(known, ", ") + "; found '" + name + "'");
}
