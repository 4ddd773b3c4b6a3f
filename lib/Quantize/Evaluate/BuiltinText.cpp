//===- BuiltinText.cpp - Calibration text for who gives none --------------===//
//
// English prose in the public domain (Text/public-domain.txt), part of the binary.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Calibrate.h"

__asm__(".pushsection .rodata,\"a\"\n"
        "quern_builtin_text:\n"
        ".incbin \"" QUERN_BUILTIN_TEXT "\"\n"
        "quern_builtin_text_end:\n"
        ".byte 0\n"
        ".popsection");

extern "C" const char quern_builtin_text[], quern_builtin_text_end[];

llvm::StringRef quern::quantize::builtinText() {
  return {quern_builtin_text, size_t(quern_builtin_text_end - quern_builtin_text)};
}
