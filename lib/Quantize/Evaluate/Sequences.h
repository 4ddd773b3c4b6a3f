//===- Sequences.h - Activations of sequences, on disk -----------*- C++ -*-===//
//
// A file of rows of floats, one sequence after the other, each followed by its xxh3. It is complete
// or it has another name. Private to lib/Quantize.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_EVALUATE_SEQUENCES_H
#define QUERN_LIB_QUANTIZE_EVALUATE_SEQUENCES_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/raw_ostream.h"
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace quern::quantize {

class SequenceWriter {
public:
  /// Writes `path` with ".part" behind it, over what an interrupted run left.
  static llvm::Expected<SequenceWriter> create(llvm::StringRef path);
  SequenceWriter(SequenceWriter &&) = default;
  /// Removes what was not kept.
  ~SequenceWriter();
  void add(llvm::ArrayRef<float> rows);
  /// Renames into place.
  llvm::Error keep();

private:
  explicit SequenceWriter(llvm::StringRef path) : path(path.str()) {}
  std::string path;
  std::unique_ptr<llvm::raw_fd_ostream> os;
};

class SequenceReader {
public:
  static llvm::Expected<SequenceReader> open(llvm::StringRef path);
  SequenceReader(SequenceReader &&other) noexcept
      : path(std::move(other.path)), file(std::exchange(other.file, -1)) {}
  ~SequenceReader();
  /// The next sequence, of `count` floats. Fails for damage.
  llvm::Error next(size_t count, std::vector<float> &rows);

private:
  explicit SequenceReader(llvm::StringRef path) : path(path.str()) {}
  std::string path;
  int file = -1;
};

} // namespace quern::quantize

#endif // QUERN_LIB_QUANTIZE_EVALUATE_SEQUENCES_H
