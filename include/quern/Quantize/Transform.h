//===- Transform.h - A model that computes the same and rounds better -----*- C++ -*-===//
//
// Runs the passes of Quantize/Migrate over a model file and writes the model, or IR, with the changed
// weights in f32. What `quern transform` does, and `quern quantize --transform` does first.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_QUANTIZE_TRANSFORM_H
#define QUERN_QUANTIZE_TRANSFORM_H

#include "quern/Quantize/Calibrate.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"
#include <functional>
#include <string>
#include <vector>

namespace quern::quantize {

struct QuantizeOptions;

struct TransformOptions {
  std::string model;
  std::string output; ///< a GGUF file, or IR as Pipeline/ModuleFile.h writes it
  /// In order: a name that transformNames() lists, with the pass's options in braces:
  /// `smooth{strength=0.8}`.
  std::vector<std::string> transforms;
  std::string statistics; ///< of the model as it is; empty: calibrates with `text`
  std::vector<TextSource> texts;
  unsigned threads = 0;
  bool allowRequantize = false; ///< coded tensors are decoded, too
  bool force = false;
  std::function<bool(llvm::StringRef phase, double fraction)> progress;
  std::function<void(const std::string &)> note;
};

/// Splits `fold{exponent=0.5 limit=8},smooth` at the commas outside braces.
std::vector<std::string> splitTransforms(llvm::StringRef text);

/// The known names with what they do, a line each.
std::string transformNames();

/// Transforms. The report: for each transform its name and the pass's statistics; the tensors that
/// changed. Errors: an unknown name, bad options, a text or statistics missing where they are
/// needed, coded tensors unless allowed, and before any work what the output cannot say.
llvm::Expected<llvm::json::Object> transform(const TransformOptions &options);

/// One of the report's transforms, with what it did: `smooth{strength=0.6}: refused 1, scaled 16`.
void printTransform(const llvm::json::Object &entry, llvm::raw_ostream &os);

/// Quantizes by `run` what the options' transforms make of the model.
llvm::Expected<llvm::json::Object> quantizeTransformed(
    const QuantizeOptions &options,
    llvm::function_ref<llvm::Expected<llvm::json::Object>(const QuantizeOptions &)> run);

} // namespace quern::quantize

#endif // QUERN_QUANTIZE_TRANSFORM_H
