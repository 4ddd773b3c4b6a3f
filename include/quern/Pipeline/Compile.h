//===- Compile.h - From a model file to a program ---------------*- C++ -*-===//
//
// What `quern compile` and the C API's quernCompile do: the whole path, once.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_PIPELINE_COMPILE_H
#define QUERN_PIPELINE_COMPILE_H

#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"
#include <functional>
#include <string>
#include <vector>

namespace mlir {
class ModuleOp;
}

namespace quern::import {
struct ModelFile;
}

namespace quern {

enum class EmitKind {
  Mlir,     ///< the model level, as text
  Bytecode, ///< the same, as MLIR bytecode
  Kernels,  ///< the kernel level, as text
  Llvm,     ///< LLVM IR of one target
  Assembly, ///< of one target
  Object,   ///< all targets and the program table, weights beside
  Library,  ///< static archive with the runtime, weights beside
  Shared,   ///< shared library
  Executable,
};

/// `exe`, `shared`, ...; the error lists all names.
llvm::Expected<EmitKind> parseEmitKind(llvm::StringRef name);

/// Positions compiled for when the user does not say: enough for most, without reserving what few
/// need.
inline constexpr int64_t defaultContext = 4096;

struct CompileOptions {
  /// A model, or model-level IR (Pipeline/ModuleFile.h). An empty output: its name with the usual
  /// ending.
  std::string model, output;
  const import::ModelFile *source = nullptr; ///< if set, compiled in the place of `model`
  EmitKind emit = EmitKind::Executable;
  std::vector<std::string> targets; ///< empty: the portable set
  std::string format;               ///< for float weights; empty: keep their own
  std::string passes;               ///< run over the model first, as quern-opt spells them
  std::string activations = "fast"; ///< f32, bf16, q8, int8, q4, int4, fast
  std::string kvCache;              ///< f32, f16, q8_0, q4; empty: f32 for a model of f32, else f16
  int64_t context = 0;              ///< 0: the model's own, at most 4096
  bool weightsBeside = false;       ///< of IR: it then holds all that a program needs
  bool packCode = true;              ///< programs unpack their code at start
  bool observers = false;  ///< show the inputs of products to the program's caller (calibration)
  bool boundaries = false; ///< let the program's caller run parts of it
  bool dequantize = false; ///< `format` replaces coded weights, too
  /// Changes the module, model level, once `passes` have run.
  std::function<llvm::Error(mlir::ModuleOp)> rewrite;
  bool dryRun = false;     ///< plan and report, write nothing
  bool force = false;      ///< overwrite the output
  unsigned threads = 0;    ///< 0: all cores; the result does not depend on it

  /// Gets the phase and the share of it done; returns false to cancel.
  std::function<bool(llvm::StringRef phase, double fraction)> progress;
};

/// Compiles. The report: what `quern compile --json` prints (docs/Runtime.md).
llvm::Expected<llvm::json::Object> compile(const CompileOptions &options);

} // namespace quern

#endif // QUERN_PIPELINE_COMPILE_H
