//===- Matrix.cpp - A whole matrix as Quern stores it ---------------------===//
//
// See Matrix.h.
//
//===----------------------------------------------------------------------===//
#include "quern/Format/Matrix.h"
#include "quern/Format/Known.h"
#include "quern/Format/Size.h"

using namespace quern::format;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

std::string quern::format::formatName(const Spec &spec) {
  if (const FileType *type = ggufType(spec))
    return type->name.str();
  llvm::StringRef known = knownName(spec);
  return known.empty() ? print(spec) : known.str();
}

Expected<Spec> quern::format::parseBaseFormat(llvm::StringRef name) {
  for (const FileType &type : ggufTypes())
    if (type.name.equals_insensitive(name))
      return type.spec;
  Expected<Spec> spec = parse(name);
  if (!spec)
    return createStringError("format '" + name + "': " + llvm::toString(spec.takeError()));
  if (spec->kind != Spec::Kind::Base)
    return createStringError("format '" + name +
                             "' is a sum or a split, which no solver rounds to");
  return spec;
}

const FileType *quern::format::blockType(const Spec &spec, int64_t cols) {
  const FileType *type = ggufType(spec);
  return type && cols % type->blockElements == 0 ? type : nullptr;
}

Expected<uint64_t> quern::format::matrixBytes(const Spec &spec, int64_t rows, int64_t cols) {
  if (const FileType *type = blockType(spec, cols)) {
    Expected<uint64_t> row = type->rowBytes(cols);
    if (!row)
      return row.takeError();
    return *row * uint64_t(rows);
  }
  if (spec.kind == Spec::Kind::Split) {
    Expected<std::vector<int64_t>> sets = splitColumns(spec, cols);
    return sets ? storedBytes(spec, {rows, cols}, *sets) : sets.takeError();
  }
  uint64_t bytes = 0;
  for (const ComponentInfo &info : canonicalComponents(spec, rows, cols))
    bytes += info.size();
  return bytes;
}

Expected<std::vector<uint8_t>> quern::format::packMatrix(const Spec &spec,
                                                         const Components &components) {
  std::vector<uint8_t> bytes;
  if (const FileType *type = blockType(spec, components.cols)) {
    Expected<uint64_t> all = matrixBytes(spec, components.rows, components.cols);
    if (!all)
      return all.takeError();
    bytes.resize(*all);
    if (Error e = type->pack(components, bytes))
      return std::move(e);
    return bytes;
  }
  return packWhole(spec, components);
}

Error quern::format::decodeMatrix(const Spec &spec, llvm::ArrayRef<uint8_t> bytes, int64_t rows,
                                  int64_t cols, llvm::MutableArrayRef<float> out) {
  if (const FileType *type = blockType(spec, cols))
    return type->decode(bytes, rows, cols, out);
  Components components;
  if (spec.kind == Spec::Kind::Split) {
    if (Error e = unpackWhole(spec, bytes, rows, cols, components))
      return e;
    return decode(spec, components, out);
  }
  std::vector<llvm::ArrayRef<uint8_t>> arrays;
  for (const ComponentInfo &info : canonicalComponents(spec, rows, cols)) {
    if (info.size() > bytes.size())
      return createStringError("its data end early");
    arrays.push_back(bytes.take_front(info.size()));
    bytes = bytes.drop_front(info.size());
  }
  if (Error e = unpackCanonical(spec, arrays, 0, rows, cols, components))
    return e;
  return decode(spec, components, out);
}
