//===- PayloadWriter.h - Appends weights and data to a program --*- C++ -*-===//
//
// Writes the sections of runtime/Payload.h: weights as they come, so that memory stays bounded
// whatever the model's size; the rest at the end, packed if it is small.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_EMIT_PAYLOADWRITER_H
#define QUERN_EMIT_PAYLOADWRITER_H

#include "quern/Support/OutputFile.h"
#include "quern/Runtime/Hash.h"
#include "quern/Runtime/Payload.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringExtras.h"

namespace quern::emit {

class PayloadWriter {
public:
  explicit PayloadWriter(OutputFile &file) : file(file), os(file.stream()) {}

  /// Copies the program the payload is appended to.
  llvm::Error copyImage(llvm::StringRef path);

  /// Sections are begun in the order of their numbers; those left out are empty.
  void begin(runtime::PayloadSection kind);
  llvm::raw_ostream &stream() { return os; }
  void write(llvm::ArrayRef<uint8_t> bytes);
  void write(llvm::StringRef text) { write(llvm::arrayRefFromStringRef(text)); }
  /// Bytes written to the current section.
  uint64_t position() const;
  /// Fills with zeros until position() is `target`.
  void padTo(uint64_t target);

  /// For a program whose weights lie beside: their hash, from the other writer.
  void setWeightsBeside(uint64_t hash);
  uint64_t weightsHash() const { return weights.finish(); }

  /// Writes the footer and moves the file into place.
  llvm::Error finish();

private:
  void endSection();
  llvm::Error writeContents();
  OutputFile &file;
  llvm::raw_fd_ostream &os;
  runtime::PayloadFooter footer = {};
  std::optional<runtime::PayloadSection> current;
  runtime::Hash64 weights, contents;
  std::vector<uint8_t> rest; ///< all sections but the weights, aligned
  std::optional<uint64_t> besideHash;
};

} // namespace quern::emit

#endif // QUERN_EMIT_PAYLOADWRITER_H
