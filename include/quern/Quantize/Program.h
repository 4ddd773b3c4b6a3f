//===- Program.h - A model compiled and loaded in process -------*- C++ -*-===//
//
// What calibration and evaluation run: the model, compiled to a shared library in a temporary
// folder and driven through its C interface. In the float engine every matrix is f32, whatever the
// file stores, so that models differ by their weights alone; and weights can be replaced.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_QUANTIZE_PROGRAM_H
#define QUERN_QUANTIZE_PROGRAM_H

#include "quern/Quantize/Predictor.h"
#include "quern/Runtime/quern.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/JSON.h"
#include <memory>
#include <string>
#include <vector>

namespace quern::quantize {

struct ProgramOptions {
  bool floatEngine = true; ///< decode all weights to f32; else the model's own formats
  std::string format;      ///< not the float engine: of float weights
  bool dequantize = false; ///< not the float engine: `format` replaces coded weights, too
  std::string activations; ///< not the float engine; empty: as compiled
  bool observers = false;  ///< see setObserver
  bool parts = false;      ///< see runParts
  int64_t context = 0;     ///< 0: the model's own, at most 4096
  unsigned threads = 0;    ///< 0: one for each core
};

class Program : public Predictor {
public:
  /// Compiles a model file, or loads a shared library that `quern compile --emit=shared` wrote.
  static llvm::Expected<std::unique_ptr<Program>> create(llvm::StringRef model,
                                                         const ProgramOptions &options);
  ~Program() override;
  Program(const Program &) = delete;

  int64_t vocabulary() const override { return info.vocab_size; }
  int64_t context() const override { return info.context; }
  /// That call observers.
  int32_t threads() const { return info.threads; }
  /// The JSON object of docs/Runtime.md.
  const llvm::json::Object &metadata() const { return meta; }

  llvm::Expected<std::vector<int32_t>> tokenize(llvm::StringRef text) override;
  llvm::Expected<std::vector<int32_t>> prefix() override;
  llvm::Error run(llvm::ArrayRef<int32_t> tokens, std::vector<float> &logits) override;

  /// A program with parts can be run part by part, in order of their numbers: part 0 makes the
  /// first residual stream, the last makes logits, and all that one needs of those before it is the
  /// stream: [tokens][streamColumns]. One part without `ProgramOptions::parts`.
  size_t parts() const { return streamParts + 1; }
  int64_t streamColumns() const { return columns; }
  /// The first part that reads a weight; 0 if none says.
  size_t partOfWeight(llvm::StringRef name) const { return partOf.lookup(name); }
  /// Gets the stream that leaves `part`, some rows at a time, from the first on.
  using StreamSink = llvm::function_ref<void(size_t part, size_t row, llvm::ArrayRef<float> rows)>;
  /// Runs parts [first, end) of a sequence from its start. `stream`: what enters part `first`,
  /// for first > 0; `leave` gets what leaves each part that is run, but the last of the program;
  /// `logits` is as in `run`, if the last is run, and may be null else.
  llvm::Error runParts(llvm::ArrayRef<int32_t> tokens, size_t first, size_t end,
                       llvm::ArrayRef<float> stream, StreamSink leave, std::vector<float> *logits);

  /// Called on every thread with the rows that enter observer `index` (Runtime/Program.h).
  using Observer = void (*)(void *user, int32_t index, const float *rows, int32_t count,
                            int32_t columns, int32_t thread, int32_t threads);
  void setObserver(Observer observer, void *user);

  /// Puts other values in the place of a weight of `rows` x `columns` (a vector: one row); float
  /// engine only. An empty `values` brings the model's own back.
  llvm::Error replaceWeight(llvm::StringRef name, llvm::ArrayRef<float> values, int64_t rows,
                            int64_t columns);

private:
  Program() = default;
  llvm::Error load(llvm::StringRef library, unsigned threads);

  struct Interface;
  std::unique_ptr<Interface> functions;
  void *library = nullptr;
  quern_model *model = nullptr;
  int32_t sequence = -1;
  quern_info info = {};
  llvm::json::Object meta;
  llvm::StringMap<size_t> partOf; ///< weights
  size_t streamParts = 0;         ///< boundaries
  int64_t columns = 0;            ///< of the stream
  std::string folder;             ///< of the compiled program; removed at the end
  /// Packed, by name; in files without names, since all weights together may exceed the memory.
  llvm::StringMap<std::unique_ptr<llvm::sys::fs::mapped_file_region>> replaced;
};

} // namespace quern::quantize

#endif // QUERN_QUANTIZE_PROGRAM_H
