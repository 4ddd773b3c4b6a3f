//===- FileRows.cpp - Reading and writing rows of GGUF's types ------------===//
//
// Whole rows through a type's BlockLayout.
//
//===----------------------------------------------------------------------===//
#include "BlockLayout.h"
#include "quern/Format/FileType.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/CheckedArithmetic.h"
#include <cstring>

using namespace quern::format;

llvm::Expected<uint64_t> FileType::rowBytes(int64_t cols) const {
  if (cols < 0 || cols % blockElements != 0)
    return llvm::createStringError(name + ": rows of " + llvm::Twine(cols) +
                                   " elements; expected a multiple of " +
                                   llvm::Twine(blockElements));
  auto bytes = llvm::checkedMulUnsigned(uint64_t(cols) / blockElements, uint64_t(blockBytes));
  if (!bytes)
    return llvm::createStringError(name + ": rows of " + llvm::Twine(cols) + " elements");
  return *bytes;
}

/// Checks that `size` bytes are `rows` rows.
static llvm::Error checkSize(const FileType &type, uint64_t size, int64_t rows, int64_t cols) {
  llvm::Expected<uint64_t> rowBytes = type.rowBytes(cols);
  if (!rowBytes)
    return rowBytes.takeError();
  auto expected = rows < 0 ? std::nullopt : llvm::checkedMulUnsigned(uint64_t(rows), *rowBytes);
  if (!expected || *expected != size)
    return llvm::createStringError(type.name + ": " + llvm::Twine(rows) + " rows of " +
                                   llvm::Twine(cols) + " elements need " +
                                   (expected ? llvm::Twine(*expected).str() : "too many") +
                                   " bytes; found " + llvm::Twine(size));
  return llvm::Error::success();
}

llvm::Error FileType::unpack(llvm::ArrayRef<uint8_t> bytes, int64_t rows, int64_t cols,
                             Components &out) const {
  if (llvm::Error error = checkSize(*this, bytes.size(), rows, cols))
    return error;
  allocate(spec, 0, rows, cols, out);
  if (layout->fields.empty()) {
    if (!bytes.empty())
      std::memcpy(out.codes.bytes.data(), bytes.data(), bytes.size());
    return llvm::Error::success();
  }
  // Rows are whole blocks, so block b's elements lie at b x elements in every array.
  size_t blocks = bytes.size() / blockBytes;
  for (const BlockField &field : layout->fields) {
    uint8_t *to = field.stream(out).bytes.data();
    size_t step = size_t(field.elements) * field.elementBytes;
    for (size_t b = 0; b < blocks; ++b)
      field.unpack(&bytes[b * blockBytes], to + b * step);
  }
  return llvm::Error::success();
}

llvm::Error FileType::pack(const Components &components,
                           llvm::MutableArrayRef<uint8_t> bytes) const {
  if (llvm::Error error = verify(spec, components))
    return error;
  if (llvm::Error error = checkSize(*this, bytes.size(), components.rows, components.cols))
    return error;
  if (layout->fields.empty()) {
    if (!bytes.empty())
      std::memcpy(bytes.data(), components.codes.bytes.data(), bytes.size());
    return llvm::Error::success();
  }
  std::fill(bytes.begin(), bytes.end(), 0);
  size_t blocks = bytes.size() / blockBytes;
  for (const BlockField &field : layout->fields) {
    const uint8_t *from = field.stream(components).bytes.data();
    size_t step = size_t(field.elements) * field.elementBytes;
    for (size_t b = 0; b < blocks; ++b)
      field.pack(from + b * step, &bytes[b * blockBytes]);
  }
  return llvm::Error::success();
}

llvm::Error FileType::decode(llvm::ArrayRef<uint8_t> bytes, int64_t rows, int64_t cols,
                             llvm::MutableArrayRef<float> out) const {
  if (llvm::Error error = checkSize(*this, bytes.size(), rows, cols))
    return error;
  if (out.size() != uint64_t(rows) * uint64_t(cols))
    return llvm::createStringError(name + ": room for " + llvm::Twine(uint64_t(out.size())) +
                                   " values; expected " + llvm::Twine(rows) + "x" +
                                   llvm::Twine(cols));
  if (cols == 0)
    return llvm::Error::success();
  uint64_t bytesPerRow = uint64_t(cols) / blockElements * blockBytes;
  // Slices that stay in the cache.
  int64_t slice = std::max<int64_t>(1, (int64_t(1) << 15) / cols);
  Components components;
  for (int64_t row = 0; row < rows; row += slice) {
    int64_t n = std::min(slice, rows - row);
    if (llvm::Error error =
            unpack(bytes.slice(row * bytesPerRow, n * bytesPerRow), n, cols, components))
      return error;
    if (llvm::Error error = format::decode(spec, components, out.slice(row * cols, n * cols)))
      return error;
  }
  return llvm::Error::success();
}
