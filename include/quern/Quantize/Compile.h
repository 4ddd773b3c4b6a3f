//===- Compile.h - Compiling with weights that a solver rounded -*- C++ -*-===//
//
// `quern compile --format F --solver S`: quern::compile() rounds to nearest, as tools of file formats
// do; this calibrates first and rounds so that the products change least, as quantize() does with the
// same format. Everything else of CompileOptions holds.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_QUANTIZE_COMPILE_H
#define QUERN_QUANTIZE_COMPILE_H

#include "quern/Pipeline/Compile.h"
#include "quern/Quantize/Calibrate.h"
#include "quern/Quantize/Solver.h"

namespace quern::quantize {

struct RoundingOptions {
  Method method = Method::Descent;
  std::vector<TextSource> texts; ///< to calibrate with; none: the built-in one
  std::string statistics;        ///< of `quern calibrate`, in place of texts
  bool allowRequantize = false;  ///< round coded matrices again
  std::function<void(const std::string &)> note;
};

/// Compiles a float model in `options.format`. The report is that of compile() with an object
/// "rounding": solver, text, tokens. An error if there is no format, or if the model is IR, is changed
/// by passes or, unless allowed, has coded matrices already. A dry run calibrates nothing.
llvm::Expected<llvm::json::Object> compileRounded(const CompileOptions &options,
                                                  const RoundingOptions &rounding);

} // namespace quern::quantize

#endif // QUERN_QUANTIZE_COMPILE_H
