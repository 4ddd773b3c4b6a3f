//===- OutputFile.h - Files written aside, then renamed ---------*- C++ -*-===//
//
// The class itself is part of Support; emission knows it by these names.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_EMIT_OUTPUTFILE_H
#define QUERN_EMIT_OUTPUTFILE_H

#include "quern/Support/OutputFile.h"

namespace quern::emit {
using quern::checkWritable;
using quern::OutputFile;
} // namespace quern::emit

#endif // QUERN_EMIT_OUTPUTFILE_H
