//===- CanonicalWhole.cpp - A coded matrix as one run of bytes ------------===//
//
// See FileType.h. Terms of sums and splits recurse; what remains are arrays.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/FileType.h"
#include "quern/Format/Size.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/Endian.h"

using namespace quern::format;
using llvm::ArrayRef;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

static Error append(const Spec &spec, const Components &components, std::vector<uint8_t> &out) {
  if (spec.kind == Spec::Kind::Base) {
    auto arrays = packCanonical(spec, components);
    if (!arrays)
      return arrays.takeError();
    for (const std::vector<uint8_t> &array : *arrays)
      llvm::append_range(out, array);
    return Error::success();
  }
  for (auto [term, part] : llvm::zip_equal(spec.terms, components.terms))
    if (Error error = append(term, part, out))
      return error;
  size_t begin = out.size();
  out.resize(begin + 4 * components.permutation.size());
  for (auto [i, column] : llvm::enumerate(components.permutation))
    llvm::support::endian::write32le(out.data() + begin + 4 * i, uint32_t(column));
  return Error::success();
}

Expected<std::vector<uint8_t>> quern::format::packWhole(const Spec &spec,
                                                        const Components &components) {
  if (Error error = verify(spec, components))
    return std::move(error);
  std::vector<uint8_t> out;
  if (Error error = append(spec, components, out))
    return std::move(error);
  return out;
}

/// Reads from the front of `bytes`, which are known to suffice.
static Error take(const Spec &spec, ArrayRef<uint8_t> &bytes, Components &out) {
  if (spec.kind == Spec::Kind::Base) {
    std::vector<ArrayRef<uint8_t>> arrays;
    for (const ComponentInfo &info : canonicalComponents(spec, out.rows, out.cols)) {
      arrays.push_back(bytes.take_front(info.size()));
      bytes = bytes.drop_front(info.size());
    }
    return unpackCanonical(spec, arrays, 0, out.rows, out.cols, out);
  }
  for (auto [term, part] : llvm::zip_equal(spec.terms, out.terms))
    if (Error error = take(term, bytes, part))
      return error;
  for (int32_t &column : out.permutation) {
    column = int32_t(llvm::support::endian::read32le(bytes.data()));
    bytes = bytes.drop_front(4);
  }
  return Error::success();
}

Error quern::format::unpackWhole(const Spec &spec, ArrayRef<uint8_t> bytes, int64_t rows,
                                 int64_t cols, Components &out) {
  std::vector<int64_t> sets;
  if (spec.kind == Spec::Kind::Split) {
    auto columns = splitColumns(spec, cols);
    if (!columns)
      return columns.takeError();
    sets = std::move(*columns);
  }
  // Checks the size before anything of that size is allocated.
  Expected<uint64_t> size = storedBytes(spec, {rows, cols}, sets);
  if (!size)
    return size.takeError();
  if (bytes.size() != *size)
    return createStringError("'" + print(spec) + "': expected " + llvm::Twine(*size) +
                             " bytes for " + llvm::Twine(rows) + "x" + llvm::Twine(cols) +
                             ", found " + llvm::Twine(uint64_t(bytes.size())));
  allocate(spec, 0, rows, cols, out, sets);
  if (Error error = take(spec, bytes, out))
    return error;
  return verify(spec, out);
}
